//! Programs that people would really run on Phalanx
