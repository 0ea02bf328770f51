"""The 23 tasks of GLUE, SuperGLUE and RACE."""
