"""All command-line flags. One module for each kind of command line, and one for the flags that set a config."""
