"""The training run: devices, steps, schedule, state, the RUN folder."""
