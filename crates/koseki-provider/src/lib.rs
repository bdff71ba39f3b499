//! The registry side
