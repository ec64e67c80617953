"""The operations in C++, and how its library is loaded."""
