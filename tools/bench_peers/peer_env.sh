# Sourced before PyTorch: the settings under which Debian's PyTorch 1.13 is at its best.
# - AVX-512 kernels; by itself it stays with AVX2 on some CPUs
# - OpenBLAS threaded by OpenMP (libopenblas0-openmp); the pthread one inherits the affinity mask
#   that OpenMP sets, and then runs all of its threads on one core
# - OpenMP threads bound to cores; unbound ones spin at barriers, now and then both on one core
# - freed blocks stay in the process instead of going back to the kernel
# With two threads it is still bimodal from start to start: start it six times, take the best.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
if grep -qw avx512f /proc/cpuinfo 2>/dev/null; then export ATEN_CPU_CAPABILITY=avx512; fi
export OMP_PROC_BIND=true
blas=$(dpkg -L libopenblas0-openmp 2>/dev/null | grep 'libblas.so.3$' | head -n 1)
if [ -n "$blas" ]; then export LD_LIBRARY_PATH="${blas%/*}"; fi
export MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=2000000000
export MALLOC_TOP_PAD_=67108864
