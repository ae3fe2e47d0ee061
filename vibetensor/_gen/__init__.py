"""Build-time writers: from the operator table to Cython, C++, stubs and docs. Imports nothing compiled."""
