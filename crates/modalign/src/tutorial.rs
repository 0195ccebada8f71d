//! Three programs, in the order in which to read them.
