#!/usr/bin/env bash
# MPI programs of others, for the tests that run them unmodified: Debian's hpcc and LAMMPS (Open MPI 4) beside a small program of ours for
# that library, MPICH with its example `cpi`, MPICH's own test suite from Debian's source package, and mpi4py with Intel MPI and its
# benchmarks from PyPI. All is put into the folder that is named, nothing into the system, and root is not needed; what is there already
# is not fetched again. What cannot be had is said, and the rest goes on.
set -uo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/apt/sources" "$1/apt/lists/partial" "$1/apt/debs/partial"
cd "$1" || exit
folder=$PWD
export LC_ALL=C

# cpus that build
jobs=$(nproc)

skipped() {
    echo "skipped: $*"
    return 1
}

# apt with lists of its own, which know source packages as well, and as if no MPI library was installed: those of the system
# cannot be moved, and may be others
apt() {
    timeout 120 apt-get -q -o Debug::NoLocking=1 -o APT::Sandbox::User= -o Acquire::Retries=2 -o Acquire::http::Timeout=20 \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/apt/sources" -o Dir::State::Lists="$folder/apt/lists" \
        -o Dir::State::Status="$folder/apt/status" -o Dir::Cache="$folder/apt" -o Dir::Cache::Archives="$folder/apt/debs" "$@"
}

lists() {
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ ! -f "$file" ] || sed -e 's/^Types: deb$/Types: deb deb-src/' -e 's/^deb \(.*\)/&\ndeb-src \1/' "$file" \
            >"apt/sources/$(basename "$file")"
    done
    awk 'BEGIN { RS = ""; ORS = "\n\n" }
         !/^Package: (hpcc|(lib)?lammps|[^\n]*(mpich|openmpi|coarrays)|libpmix|mpi-default)/' /var/lib/dpkg/status >apt/status
    # an index of somebody else's that cannot be had does not matter
    apt update >apt/update.log 2>&1
}

packages() {
    apt install --yes --download-only --no-install-recommends hpcc lammps libopenmpi3 openmpi-bin libmpich12 make xz-utils &&
        (cd apt/debs && apt download lammps-examples libopenmpi-dev mpich libmpich-dev)
}

unpack() {
    local package
    rm -rf root unpacked
    mkdir -p unpacked/usr/lib unpacked/usr/bin
    # as in the system itself
    ln -sfn usr/lib unpacked/lib
    ln -sfn usr/bin unpacked/bin
    for package in apt/debs/*.deb; do
        case $package in
            # of the many examples there is one that is run
            */lammps-examples_*) dpkg-deb --fsys-tarfile "$package" | tar -x -C unpacked ./usr/share/lammps/examples/melt ;;
            # its loader could not be moved
            */libc6_*) ;;
            *) dpkg-deb --fsys-tarfile "$package" | tar -x -C unpacked --keep-directory-symlink --exclude='*.a' ;;
        esac || return
    done
    # tests run what they find there
    mv unpacked root
    ln -sfn "$(dirname "$(find root -name libmpi.so.40 -print -quit)")" lib
    # the compiler's wrapper knows where its package would be installed
    sed "s#=/usr/#=$folder/root/usr/#" root/usr/bin/mpicc.mpich >mpicc
    chmod +x mpicc
    # all libraries are found, here or in the system
    if LD_LIBRARY_PATH=lib:lib/blas ldd root/usr/bin/hpcc root/usr/bin/lmp lib/libmpich.so | grep 'not found\|No such'; then
        rm -rf root
        return 1
    fi
}

# a program of ours, for Open MPI
shared() {
    OPAL_PREFIX=$folder/root/usr root/usr/bin/mpicc.openmpi -O1 -o shared.new "$here/shared.c" && mv shared.new shared
}

source_package() {
    rm -rf mpich
    (cd apt && apt source --download-only mpich) &&
        mkdir mpich &&
        tar -x -C mpich --strip-components=1 --wildcards -f apt/mpich_*.orig.tar.* '*/test/mpi/*' '*/examples/*'
}

suite() {
    ./mpicc -O1 -o cpi.new mpich/examples/cpi.c -lm && mv cpi.new cpi
    rm -rf suite
    mkdir suite
    cd suite &&
        timeout 240 ../mpich/test/mpi/configure --disable-fortran --disable-cxx CC="$folder/mpicc" MPICC="$folder/mpicc" &&
        timeout 100 make -j"$jobs" -C dtpools &&
        timeout 100 make -j"$jobs" -C util libmtest_single.la
}

# those of the suite's programs that the tests run
programs() {
    local list
    cd suite &&
        for list in comm pt2pt coll; do
            # each once, however often it is run
            timeout 200 make -j"$jobs" -C "$list" $(sed '/^#/d; s/ .*//' "$here/$list.list" | sort -u) || return
        done
}

# its libraries bear the names of MPICH's, so it has an environment of its own
intel() {
    python3 -m venv intel &&
        timeout 180 intel/bin/pip install --quiet --disable-pip-version-check impi-rt==2021.18.1 mpi4py==4.1.2
}

# Does one of these once; what it says is shown if it fails.
once() {
    [ -e "$1.done" ] || { ("$1") </dev/null >"$1.log" 2>&1 && touch "$1.done"; } || { tail -n 5 "$1.log"; return 1; }
}

export PATH=$PATH:$folder/root/usr/bin LD_LIBRARY_PATH=$folder/lib
once intel || skipped "PyPI gives no Intel MPI: its programs are not run"
command -v apt-get dpkg-deb >/dev/null || skipped "MPI programs come from Debian's packages, and there is no apt" || exit
once lists
# the lists may be old, or not all of them were to be had
once packages && once unpack || { rm -f lists.done packages.done; false; } ||
    skipped "no packages of hpcc, LAMMPS, Open MPI 4 and MPICH: their programs are not run" || exit
once shared || skipped "Open MPI's compiler cannot be used: no program of it says how its ranks share nodes"
perl -MTime::HiRes -MFile::Copy -MFile::Path -e 1 2>/dev/null || skipped "no perl, so MPICH's test suite is not run" || exit
for list in comm pt2pt coll; do
    [ "$here/$list.list" -ot programs.done ] || rm -f programs.done
done
once source_package && once suite && once programs || skipped "MPICH's test suite cannot be built, and is not run"
