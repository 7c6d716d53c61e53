//! Nothing: the generator of `lockstep-proto` is the test beside it.
