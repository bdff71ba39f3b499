//! Mechanisms that know neither side
