"""dask-jobqueue: workers that are batch jobs, and a computation on them."""

import sys

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

folder = sys.argv[1]
with SLURMCluster(
    cores=1,
    memory="300MB",
    walltime="00:05:00",
    job_extra_directives=["--comment=workers"],
    local_directory=folder,
    log_directory=folder,
    interface="lo",
    scheduler_options={"dashboard_address": None},
) as cluster:
    cluster.scale(jobs=2)
    with Client(cluster) as client:
        client.wait_for_workers(2, timeout=120)
        total = client.submit(sum, client.map(lambda number: number * number, range(100)))
        print("sum", total.result(timeout=60))
