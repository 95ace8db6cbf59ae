"""Every room as a process on this machine, with embedded back ends: the only module that knows all rooms.

Needs a folder for their state. Starts them, waits until they can do their duty, starts again what died, and takes them
down in order. The same rooms run unchanged in a cluster; only their settings differ.
"""
