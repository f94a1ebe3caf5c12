//! QUIC between Phalanx's processes: endpoints, identities, framing
