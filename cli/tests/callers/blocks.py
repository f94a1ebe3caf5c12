"""Parsl: a block of workers that is a batch job, with functions and a command on it."""

import sys

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SrunLauncher
from parsl.providers import SlurmProvider

folder = sys.argv[1]


@parsl.python_app
def square(number):
    return number * number


@parsl.bash_app
def hello(stdout):
    return "echo hello from a block"


provider = SlurmProvider(
    init_blocks=1,
    max_blocks=1,
    nodes_per_block=1,
    cores_per_node=1,
    mem_per_node=1,
    walltime="00:05:00",
    exclusive=False,
    launcher=SrunLauncher(),
)
executor = HighThroughputExecutor(
    label="blocks",
    address="127.0.0.1",
    loopback_address="127.0.0.1",
    max_workers_per_node=1,
    provider=provider,
    encrypted=False,
)
with parsl.load(Config(executors=[executor], run_dir=folder, usage_tracking=0)):
    squares = [square(number) for number in range(10)]
    greeting = hello(stdout=f"{folder}/hello.txt")
    print("sum", sum(future.result(timeout=90) for future in squares))
    greeting.result(timeout=60)
print(open(f"{folder}/hello.txt").read().strip())
