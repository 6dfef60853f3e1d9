"""Which objects of a data set SSD can find, and which settings would let it find more."""
