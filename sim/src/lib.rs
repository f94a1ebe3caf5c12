//! A virtual Phalanx cluster that runs from a seed
