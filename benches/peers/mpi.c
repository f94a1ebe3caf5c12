/* What the benchmarks do, by an MPI library: to be compared with ranks of Phalanx in the same run.
 *
 *   mpi pingpong SIZE TURNS ...          seconds of a message of SIZE bytes one way between the first two ranks, a line for each pair
 *   mpi collectives TIMES COUNT          seconds of a barrier, of an all_reduce of 1 and of COUNT doubles, and of an
 *                                        all_to_all of COUNT doubles to each rank
 *   mpi pattern NAME ROUNDS ...          seconds of a step and of ROUNDS rounds of work, a line for each ROUNDS
 *
 * All figures are medians of five runs and come from rank 0.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS 5
#define RUN_SECONDS 0.03
#define STEPS_MIN 10
#define STEPS_MAX 20000
#define OUTPUT 2 /* doubles that a task hands on */

static int rank, n_ranks;

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *times) {
    qsort(times, RUNS, sizeof *times, ascending);
    return times[RUNS / 2];
}

static void *room(size_t bytes) {
    void *memory = calloc(bytes ? bytes : 1, 1);
    if (!memory)
        MPI_Abort(MPI_COMM_WORLD, 2);
    return memory;
}

static void pingpong(int size, int turns) {
    char *bytes = room(size);
    double times[RUNS];
    for (int run = 0; run < RUNS; run++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        for (int turn = 0; turn < turns && rank < 2; turn++) {
            if (rank == 0) {
                MPI_Send(bytes, size, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
                MPI_Recv(bytes, size, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            } else {
                MPI_Recv(bytes, size, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                MPI_Send(bytes, size, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
            }
        }
        times[run] = (MPI_Wtime() - start) / turns / 2;
    }
    if (rank == 0)
        printf("%.9g\n", median(times));
    free(bytes);
}

static void collective(int which, int times_each, int count, double *from, double *to) {
    double times[RUNS];
    for (int run = 0; run < RUNS; run++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        for (int i = 0; i < times_each; i++) {
            if (which == 0)
                MPI_Barrier(MPI_COMM_WORLD);
            else if (which == 1)
                MPI_Allreduce(from, to, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            else if (which == 2)
                MPI_Allreduce(from, to, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
            else
                MPI_Alltoall(from, count, MPI_DOUBLE, to, count, MPI_DOUBLE, MPI_COMM_WORLD);
        }
        times[run] = (MPI_Wtime() - start) / times_each;
    }
    if (rank == 0)
        printf("%.9g%c", median(times), which == 3 ? '\n' : ' ');
}

static uint64_t work(uint64_t state, long rounds) {
    for (long round = 0; round < rounds; round++) {
        state = state * 6364136223846793005u + 1;
        __asm__ volatile("" : "+r"(state));
    }
    return state;
}

/* Whether the task of rank `to` needs what rank `from` had after the step before. */
static int needs(const char *pattern, long step, int to, int from) {
    if (to == from)
        return 1;
    int distance = abs(to - from);
    if (!strcmp(pattern, "stencil"))
        return distance == 1;
    if (!strcmp(pattern, "nearest"))
        return distance <= 2;
    if (!strcmp(pattern, "sweep"))
        return from == to - 1;
    if (!strcmp(pattern, "tree"))
        return to > 0 && from == (to - 1) / 2;
    int levels = 0;
    while ((1 << levels) < n_ranks)
        levels++;
    return levels > 0 && distance == 1 << (step % levels);
}

static uint64_t steps(const char *pattern, long n_steps, long rounds) {
    MPI_Request requests[16];
    double in[8][OUTPUT], out[OUTPUT] = {1.0, 2.0};
    uint64_t state = rank;
    for (long step = 0; step < n_steps; step++) {
        int n = 0, received = 0;
        for (int other = 0; other < n_ranks; other++)
            if (other != rank && needs(pattern, step, rank, other))
                MPI_Irecv(in[received++], OUTPUT, MPI_DOUBLE, other, 0, MPI_COMM_WORLD, &requests[n++]);
        for (int other = 0; other < n_ranks; other++)
            if (other != rank && needs(pattern, step, other, rank))
                MPI_Isend(out, OUTPUT, MPI_DOUBLE, other, 0, MPI_COMM_WORLD, &requests[n++]);
        MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
        state = work(state, rounds);
    }
    return state;
}

static double timed(const char *pattern, long n_steps, long rounds) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    uint64_t state = steps(pattern, n_steps, rounds);
    MPI_Barrier(MPI_COMM_WORLD);
    double seconds = MPI_Wtime() - start;
    MPI_Bcast(&seconds, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    return seconds + (state == 42 ? 1e-12 : 0);
}

static void pattern(const char *name, long rounds) {
    double times[RUNS], works[RUNS];
    double trial = timed(name, STEPS_MIN, rounds) / STEPS_MIN;
    long n_steps = trial > 0 ? (long)(RUN_SECONDS / trial) : STEPS_MAX;
    n_steps = n_steps < STEPS_MIN ? STEPS_MIN : n_steps > STEPS_MAX ? STEPS_MAX : n_steps;
    for (int run = 0; run < RUNS; run++) {
        times[run] = timed(name, n_steps, rounds) / n_steps;
        if (rank == 0) {
            double start = MPI_Wtime();
            uint64_t state = work(run, rounds * 100);
            works[run] = (MPI_Wtime() - start) / 100 + (state == 42 ? 1e-12 : 0);
        }
    }
    if (rank == 0)
        printf("%.9g %.9g\n", median(times), median(works));
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n_ranks);
    if (n_ranks > 8 || argc < 4)
        MPI_Abort(MPI_COMM_WORLD, 1);
    if (!strcmp(argv[1], "pingpong"))
        for (int i = 2; i + 1 < argc; i += 2)
            pingpong(atoi(argv[i]), atoi(argv[i + 1]));
    if (!strcmp(argv[1], "collectives")) {
        int count = atoi(argv[3]);
        size_t bytes = (size_t)count * n_ranks * sizeof(double);
        double *from = room(bytes), *to = room(bytes);
        for (int which = 0; which < 4; which++)
            collective(which, atoi(argv[2]), count, from, to);
        free(from);
        free(to);
    }
    if (!strcmp(argv[1], "pattern"))
        for (int i = 3; i < argc; i++)
            pattern(argv[2], atol(argv[i]));
    MPI_Finalize();
    return 0;
}
