"""A server under load: the process that answers, clients that wait for it, strangers that would break it."""
