"""The device a run computes on, and the processes it runs in.

May import: common.
"""
