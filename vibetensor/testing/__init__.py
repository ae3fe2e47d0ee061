"""Helpers for tests, of this library and of programs that use it."""
