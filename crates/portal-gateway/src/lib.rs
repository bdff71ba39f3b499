//! The portal side
