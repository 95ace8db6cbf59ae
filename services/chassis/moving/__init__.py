"""Moving an installation: each room carries its own part (tables, and what it keeps besides) to a folder and back.

What is in a folder, and in which order rooms come and go, is said in docs/moving.md; why, in decision record 0036.
"""
