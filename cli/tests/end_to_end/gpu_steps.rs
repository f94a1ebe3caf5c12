//! Gpus of a batch job, given out to its steps on several nodes.

use crate::desk::Desk;
use crate::up::Up;

#[test]
fn ranks_on_other_nodes_see_the_gpus_that_are_theirs_there() {
    let up = Up::start_equipped(&["--workers", "2", "--cpus", "2", "--gpus", "a100:2"]);
    let desk = Desk::new(up.directory());
    let lines = r#"#!/bin/bash
second=$(scontrol show hostnames | tail -n 1)
srun -N 2 -n 2 sh -c 'echo $CUDA_VISIBLE_DEVICES' | sort
show='ids=$(echo $CUDA_VISIBLE_DEVICES of $SLURM_STEP_GPUS | tr 23 01); echo "$SLURM_PROCID on $SLURM_NODEID: $ids, $SLURM_GPUS_ON_NODE"'
srun sh -c "$show" | sort
srun --gpus-per-task=1 sh -c "$show" | sort
srun --gpu-bind=none --gpus-per-task=1 sh -c "$show" | sort
srun -n 2 --gpus=2 sh -c "$show" | sort
srun -n 1 -N 1 -w $second --gres=gpu:1 sh -c "$show"
meet='echo $CUDA_VISIBLE_DEVICES > gpu.$0; mv gpu.$0 gpu-$0; until [ -e gpu-1 ] && [ -e gpu-2 ]; do sleep 0.02; done'
for i in 1 2; do srun -n 1 -N 1 -w $second --exact --gpus=1 sh -c "$meet" $i & done; wait
sort gpu-1 gpu-2 | tr 23 01
srun -n 2 -N 2 --gpus-per-node=3 true; echo "code $?"
"#;
    desk.script("job.sh", lines);
    let line = "sbatch --wait -N2 --ntasks-per-node=2 --gpus-per-node=2 -o out.txt job.sh";
    let done = desk.run(&line.split(' ').collect::<Vec<_>>());
    let printed = desk.read("out.txt");
    assert_eq!(done.code, Some(0), "{done:?}: {printed}");
    // the names of those of the second worker go on from those of the first
    let expected = "0,1\n2,3\n\
                    0 on 0: 0,1 of 0,1, 2\n1 on 0: 0,1 of 0,1, 2\n2 on 1: 0,1 of 0,1, 2\n3 on 1: 0,1 of 0,1, 2\n\
                    0 on 0: 0 of 0,1, 2\n1 on 0: 1 of 0,1, 2\n2 on 1: 0 of 0,1, 2\n3 on 1: 1 of 0,1, 2\n\
                    0 on 0: 0,1 of 0,1, 2\n1 on 0: 0,1 of 0,1, 2\n2 on 1: 0,1 of 0,1, 2\n3 on 1: 0,1 of 0,1, 2\n\
                    0 on 0: 0 of 0, 1\n1 on 1: 0 of 0, 1\n\
                    0 on 0: 0 of 0, 1\n\
                    0\n1\n";
    let (given, refused) = printed.split_once("srun: ").unwrap();
    assert_eq!(given, expected);
    let said = "the step asks for 3 gpu on each node (tasks: 2), and its job has 4 gpu in all\ncode 1\n";
    assert!(refused.ends_with(said), "{refused}");
}
