"""submitit: functions, an array of them, one that fails, and one that saves its state when its time is over."""

import sys
import time
from pathlib import Path

import submitit

folder = Path(sys.argv[1])


def multiply(left, right):
    return left * right


def divide(left, right):
    return left / right


class Count(submitit.helpers.Checkpointable):
    """Counts on where it stopped, one step in a tenth of a second."""

    def __init__(self):
        self.reached = 0
        self.starts = 0

    def __call__(self, goal):
        self.starts += 1
        while self.reached < goal:
            time.sleep(0.1)
            self.reached += 1
        return self.starts, self.reached


executor = submitit.AutoExecutor(folder=folder / "%j", slurm_max_num_timeout=9)
assert executor.cluster == "slurm", executor.cluster
executor.update_parameters(timeout_min=5, cpus_per_task=1, mem_gb=0.25, name="functions")
# sacct is asked at once, not when the job has become old
executor._executor.job_class.watcher._delay_s = 2

single = executor.submit(multiply, 6, 7)
array = executor.map_array(multiply, range(5), range(5))
broken = executor.submit(divide, 1, 0)
assert single.result() == 42
assert [job.result() for job in array] == [0, 1, 4, 9, 16]
assert "ZeroDivisionError" in str(broken.exception())
states = [job.watcher.get_state(job.job_id, mode="force") for job in (single, *array, broken)]
print("functions", *states)

# a count that takes 12 s, and is told 10 s after its job began that its minute is over soon
executor.update_parameters(timeout_min=1, slurm_signal_delay_s=50)
count = executor.submit(Count(), 120)
starts, reached = count.result()
assert reached == 120 and starts >= 2, (starts, reached)
print("checkpoint", reached)
