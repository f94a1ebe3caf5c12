//! What Phalanx costs, measured
