//! The names that almost every program needs.
