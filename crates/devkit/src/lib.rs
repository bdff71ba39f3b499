//! Development PKI, virtual cards, synthetic registers, process harness and the demo
