"""The command `dynloss`."""
