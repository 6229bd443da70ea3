/* dlshard.h - train and run deep-learning models together on unlike devices.       MIT or Unlicense

   One C header, libc and pthreads only. Every device that compiles it can be a peer: it trains a
   share of a batch, runs a stage of a graph, or both; the result does not depend on who did what.

   DO THIS, in one .c or .cpp file, before it includes anything else:

       #define DLSHARD_IMPLEMENTATION
       #include "dlshard.h"

   and include "dlshard.h" plainly everywhere else. Build: cc -O2 program.c -lpthread. Nothing more:
   no -lm, no -march, no generated files. SIMD code is compiled per function and chosen at run time.

   >>doc.api      what it is, guarantees, toggles, contents, a tour                      deps: none

   GUARANTEES
   - No global variables. Two networks and eight peers in one process do not know of each other.
   - Sizes first: dls_x_size(&desc) says how many bytes, dls_x_init(&x, &desc, mem, bytes) uses
     exactly those. dls_x_create / dls_x_destroy are the same over DLS_MALLOC. After init nothing
     allocates.
   - Everything that can fail returns dls_status; nothing aborts, exits or prints. Builders and
     engines keep their first error; dls_error_text() says what was wrong, where, and what to do.
   - Bytes from files, links and sensors are checked, also under NDEBUG.
   - Results: same kernels, same bits, at any thread count and for any split of a batch in shards
     (exact mode). Strict mode (desc.strict) rounds after every multiply and every add, in an order
     fixed by the operation alone, so that every CPU gives the same bits.

   LIMITS
   - Float32 storage and arithmetic; no GPU. Links other than loopback are encrypted; without keys
     opening them is refused with DLS_E_REFUSED, unless plaintext is allowed by name.
   - Tensors of one sample have three axes: rows, columns, channels (h, w, c), channels innermost.
     A batch is a fourth, outermost. Sequences are h = time, w = 1.
   - Compilers: gcc >= 8, clang >= 9 for SIMD and threads; any C99 or C++11 compiler without.

   TOGGLES, 0 or 1, defined before inclusion, alike in all files        MCU  NODE  SERVER (profile)
     DLS_ENABLE_HEAP       dls_x_create over DLS_MALLOC / DLS_FREE       0    1     1
     DLS_ENABLE_THREADS    thread pool over pthreads                     0    1     1
     DLS_ENABLE_FILES      load and save by path                         0    1     1
     DLS_ENABLE_SOCKETS    TCP, UDP, serial drivers (POSIX)              0    1     1
     DLS_ENABLE_SIMD       AVX-512, AVX2, NEON kernels beside scalar     0    1     1
     DLS_ENABLE_TRAIN      backward, losses, optimisers, data            0    1     1
     DLS_ENABLE_PEERS      wire, peer, coll, job, node                   0    1     1
     DLS_ENABLE_SIGN       Ed25519 signatures                            0    1     1
     DLS_ENABLE_COORD      elections: may hold DLS_ROLE_COORD            0    1     1
     DLS_ENABLE_MESSAGES   texts of errors; without: the code alone      0    1     1
     DLS_ENABLE_STB_IMAGE  dls_image_load through the user's stb_image   0    0     0
   DLS_PROFILE is DLS_PROFILE_MCU, _NODE or _SERVER; default: NODE on an OS, MCU on bare metal.
   The layout of every public struct is the same whatever is toggled; DLS_REAL64 (all arithmetic in
   double, scalar, for gradient checks) is not a toggle but another build, and ABI-checked.
   HOOKS: DLS_MALLOC DLS_FREE DLS_NOW_US DLS_ASSERT DLS_FS_OPEN DLS_FS_READ DLS_FS_WRITE DLS_FS_SEEK
   DLS_FS_TELL DLS_FS_SYNC DLS_FS_CLOSE DLS_FS_RENAME DLS_FS_REMOVE
   DLS_RANDOM: >>port.api. DLS_MEMZERO DLS_X25519 DLS_AEAD_SEAL DLS_AEAD_OPEN DLS_HASH_INIT
   DLS_HASH_UPDATE DLS_HASH_FINAL DLS_SHA512 DLS_ED25519_VERIFY: >>crypt.api.

   CONTENTS, twice in this order, API then IMPLEMENTATION: search for ">>name.api", ">>name.impl"
     doc     this text                         train  losses, optimisers, data, fit
     config  version, profile, toggles         crypt  ciphers, hashes, signatures
     base    status, errors, generator         wire   frames
     port    clock, threads, files             chan   sessions: Noise, records, loss recovery
     tensor  dtype, shape, views               peer   engine without I/O: roster, messages
     kern    kernels, scalar to AVX-512        coll   all-reduce
     par     thread pool, matrix product       job    data-parallel step, staged inference
     op      one row per operation             link   drivers: TCP, UDP, serial
     net     graph builder, memory planner     node   the facade most users meet
     model   file format

   TOUR
     A network is a graph of ops, built by calls that return values:

       dls_net *net = dls_net_create(NULL);
       dls_val x = dls_net_input(net, 28, 28, 1);
       x = dls_net_conv2d(net, x, 16, 3, DLS_ACT_RELU);
       x = dls_net_maxpool(net, x, 2);
       x = dls_net_dense(net, x, 10, DLS_ACT_NONE);

     Builders never need checking one by one: after the first error the rest do nothing, and
     dls_net_status(net) or the first call that uses the network reports it.

     The network owns the weights. An executor (dls_exec) is a plan to run it: a batch size, a range
     of nodes, forward only or backward too, placed in one block of memory whose exact size
     dls_exec_size() knows beforehand. Several executors may share one network's weights.

       dls_exec *run = dls_exec_create(net, NULL);
       memcpy(dls_exec_input(run, 0), image, 28 * 28 * sizeof(float));
       dls_exec_forward(run, 1);
       const float *logits = dls_exec_output(run);

     Training on one device is one call over a data set, or a step at a time:

       dls_data data; dls_fit_desc fit = {0}; dls_fit_report report;
       dls_data_open(&data, "mnist-train", NULL);        (two IDX files of that name, also .gz)
       fit.epochs = 3;
       dls_fit(net, &data, &fit, &report);
       dls_net_save(net, "digits.dls", NULL);

     Training on several is the same call on a node, made by every peer:

       dls_node_desc me = {0};
       me.rank = 1; me.peers = "127.0.0.1:7000,127.0.0.1:7001,127.0.0.1:7002";
       dls_node *node;
       dls_node_create(&node, &me);
       dls_node_fit(node, net, &data, &fit, &report);

     Each batch is cut in logical shards with fixed ids; gradients are summed exactly; so the
     weights are the same bits for one peer or three, whatever the shares.

     A custom op is one dls_op row: a shape rule, a forward and a backward function; see
     examples/03_custom_op.c. Firmware without heap: examples/04_static_memory.c.

   HOW IT IS LAID OUT  DESIGN: each section names the sections it uses ("deps:"), all above it. An
   op's shape rule, forward, backward and row stand together in >>op.impl. Kernels are written once,
   over a vector type, in >>kern.pass; the header includes itself once per instruction set to
   compile that text for each. Private names begin with dlsi_ or DLSI_. */

#ifndef DLSI_PASS /* a kernel pass of the implementation, see >>kern.pass, skips all this */
#if defined(DLSHARD_IMPLEMENTATION) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE /* POSIX names under -std=c99; before the first system header */
#endif
#ifndef DLSHARD_H
#define DLSHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------------------------------------
   >>config.api   version, profiles, toggles, limits, the #error page  deps: none  */

#define DLS_VERSION_MAJOR 0
#define DLS_VERSION_MINOR 1
#define DLS_VERSION_PATCH 0

#define DLS_PROFILE_MCU 1    /* bare metal: static memory, super-loop */
#define DLS_PROFILE_NODE 2   /* phone, Pi, PC */
#define DLS_PROFILE_SERVER 3 /* PC or server with memory to spare */

#ifndef DLS_PROFILE
#if defined(__unix__) || defined(__APPLE__) || defined(_WIN32)
#define DLS_PROFILE DLS_PROFILE_NODE
#else
#define DLS_PROFILE DLS_PROFILE_MCU
#endif
#endif
#define DLSI_HOSTED (DLS_PROFILE != DLS_PROFILE_MCU)

#ifndef DLS_ENABLE_HEAP
#define DLS_ENABLE_HEAP DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_THREADS
#define DLS_ENABLE_THREADS DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_FILES
#define DLS_ENABLE_FILES DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_SOCKETS
#define DLS_ENABLE_SOCKETS DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_SIMD
#define DLS_ENABLE_SIMD DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_TRAIN
#define DLS_ENABLE_TRAIN DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_PEERS
#define DLS_ENABLE_PEERS DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_SIGN
#define DLS_ENABLE_SIGN DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_COORD
#define DLS_ENABLE_COORD DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_MESSAGES
#define DLS_ENABLE_MESSAGES DLSI_HOSTED
#endif
#ifndef DLS_ENABLE_STB_IMAGE
#define DLS_ENABLE_STB_IMAGE 0
#endif

/* The build's arithmetic type. DLS_REAL64=1 makes every tensor double, scalar code only. */
#ifndef DLS_REAL64
#define DLS_REAL64 0
#endif
#if DLS_REAL64
typedef double dls_real;
#else
typedef float dls_real;
#endif

/* Limits. Change them alike in every file of a program; none of them shapes a public struct, but
   DLS_REPLAY_BITS dls_session. */
#ifndef DLS_NODES_DEFAULT /* nodes of a network when dls_net_desc.nodes_max is 0 */
#define DLS_NODES_DEFAULT (DLSI_HOSTED ? 512 : 16)
#endif
#ifndef DLS_DIM_MAX /* longest axis, and largest count of elements of one tensor of one sample */
#define DLS_DIM_MAX (DLSI_HOSTED ? 0x40000000 : 0x400000)
#endif
#ifndef DLS_THREADS_MAX
#define DLS_THREADS_MAX 256
#endif
#ifndef DLS_ALIGN /* of every tensor inside an arena, bytes, a power of two */
#define DLS_ALIGN (DLSI_HOSTED ? 64 : 8)
#endif
#ifndef DLS_REPLAY_BITS /* how far behind the newest a record may come, a multiple of 64 */
#if DLS_PROFILE == DLS_PROFILE_MCU
#define DLS_REPLAY_BITS 64
#else
#define DLS_REPLAY_BITS 1024
#endif
#endif
#define DLS_OP_INPUTS 4 /* most inputs of an op */
#define DLS_OP_PARAMS 4 /* most parameter tensors of an op */
#define DLS_ATTR_INTS 8
#define DLS_ATTR_REALS 2

/* The #error page: combinations that cannot work say so here, and nowhere else. */
#if DLS_PROFILE < DLS_PROFILE_MCU || DLS_PROFILE > DLS_PROFILE_SERVER
#error "dlshard: DLS_PROFILE must be DLS_PROFILE_MCU, DLS_PROFILE_NODE or DLS_PROFILE_SERVER"
#endif
#if DLS_ENABLE_THREADS && !defined(__GNUC__)
#error "dlshard: DLS_ENABLE_THREADS needs the __atomic builtins of gcc or clang; set it to 0"
#endif
#if DLS_ENABLE_STB_IMAGE && (!DLS_ENABLE_FILES || !DLS_ENABLE_HEAP)
#error "dlshard: DLS_ENABLE_STB_IMAGE reads files; it needs DLS_ENABLE_FILES=1 and ..HEAP=1"
#endif
#if DLS_REPLAY_BITS < 64 || DLS_REPLAY_BITS > 8128 || DLS_REPLAY_BITS % 64 != 0
#error "dlshard: DLS_REPLAY_BITS must be a multiple of 64, 64 to 8128"
#endif
#if defined(__FAST_MATH__)
#error "dlshard: compile this file without -ffast-math: NaN checks and equal bits depend on it"
#endif
#if defined(__FLT_EVAL_METHOD__) && !DLS_REAL64
#if __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "dlshard: floats must stay floats; add -fexcess-precision=fast or -msse2 -mfpmath=sse"
#endif
#endif

/* What init functions compare: two files of one program must agree on it. */
#define DLS_ABI                                                                                    \
    ((uint32_t)DLS_VERSION_MAJOR << 24 | (uint32_t)DLS_VERSION_MINOR << 16 |                       \
     (uint32_t)(DLS_REPLAY_BITS / 64) << 9 | (uint32_t)DLS_REAL64 << 8 | (uint32_t)sizeof(void *))

/* DLSHARD_STATIC makes every function static: a private copy for one file. */
#if defined(__GNUC__)
#define DLSI_UNUSED __attribute__((unused))
#else
#define DLSI_UNUSED
#endif
/* clang-format off */
#ifdef DLSHARD_STATIC
#define DLS_API static DLSI_UNUSED
#elif defined(__cplusplus)
#define DLS_API extern "C"
#else
#define DLS_API extern
#endif
/* clang-format on */

/* ------------------------------------------------------------------------------------------------
   >>base.api   status, errors, generator, hashes  deps: config  */

typedef enum dls_status {
    DLS_OK = 0,
    DLS_E_ARG,         /* an argument or desc field is out of range */
    DLS_E_SHAPE,       /* shapes do not fit together */
    DLS_E_MEMORY,      /* the memory given is smaller than dls_x_size() said, or malloc failed */
    DLS_E_LIMIT,       /* a compiled or desc limit (nodes_max, ...) is reached */
    DLS_E_FORMAT,      /* a file or frame is not what it should be */
    DLS_E_CHECKSUM,    /* a file or frame was damaged */
    DLS_E_VERSION,     /* a file or peer is of another, incompatible version */
    DLS_E_ABI,         /* two files of the program were compiled with unlike dlshard.h */
    DLS_E_IO,          /* reading or writing failed */
    DLS_E_FULL,        /* no space left where we write */
    DLS_E_NOT_FOUND,   /* no such file, op or peer */
    DLS_E_STATE,       /* the call does not fit the object's state */
    DLS_E_PEER,        /* a peer was lost */
    DLS_E_TIMEOUT,     /* a peer did not answer in time */
    DLS_E_REFUSED,     /* policy: for instance an address that is not loopback */
    DLS_E_UNSUPPORTED, /* compiled out, or not possible for this object */
    DLS_E_NUMBER,      /* NaN or infinity where a number is needed */
    DLS_E_STOPPED,     /* the caller's callback asked to stop; state is consistent, go on later */
    DLS_E_MISMATCH,    /* peers disagree: another network, configuration or result */
    DLS_E_AUTH,        /* not authentic: forged, or made with another key */
    DLS_STATUS_COUNT
} dls_status;

/* Where an error came from. Small, no buffers: text is made on demand by dls_error_text(). */
typedef struct dls_error {
    dls_status status;
    int32_t node;     /* node of the network, -1: none */
    const char *what; /* with {0} {1} {2} for arg, {s} for name; lives in program memory */
    const char *name; /* a name or path given by the caller, who keeps it alive; may be NULL */
    int32_t arg[3];
} dls_error;

/* Short constant text of a status, e.g. "DLS_E_SHAPE: shapes do not fit together".
   Never NULL. Pure. Any thread. */
DLS_API const char *dls_status_text(dls_status status);

/* Writes the whole message of an error, NUL-terminated and cut to fit: what, where, what to do.
   buf: at least 1 byte. Returns buf. Pure. Any thread. Example: examples/01_xor.c */
DLS_API char *dls_error_text(const dls_error *error, char *buf, size_t bytes);

/* Counter-based generator: u32 at (seed, index), no state, the same on every device.
   Two rounds of a 32-bit finaliser (constants: C. Wellons, hash-prospector). Pure. Any thread. */
DLS_API uint32_t dls_rand_at(uint64_t seed, uint32_t index);

/* A stream over dls_rand_at. Zero-initialise and set seed; next is the position. */
typedef struct dls_rng {
    uint64_t seed;
    uint64_t next;
} dls_rng;

/* Uniform u32. Pure but for *rng. */
DLS_API uint32_t dls_rng_u32(dls_rng *rng);
/* Uniform in [0, 1), 24 bits. */
DLS_API float dls_rng_uniform(dls_rng *rng);
/* Normal(0, 1) by Box-Muller in double; the same bits on every device. */
DLS_API float dls_rng_normal(dls_rng *rng);

/* Position i of a pseudo-random permutation of 0..n-1 (Feistel network with cycle walking):
   a shuffle that needs no memory. n: 1..2^31. Pure. O(1) expected. */
DLS_API uint32_t dls_shuffle_at(uint64_t seed, uint32_t n, uint32_t i);

/* CRC-32C (Castagnoli, RFC 3720 B.4) of bytes, continuing crc (0 at start). Pure. O(bytes). */
DLS_API uint32_t dls_crc32c(uint32_t crc, const void *bytes, size_t count);

/* 64-bit hash of bytes, continuing hash (any seed at start). Not cryptographic. Same on every
   device. Calls chain only on multiples of 8 bytes. Pure. O(bytes). */
DLS_API uint64_t dls_hash64(uint64_t hash, const void *bytes, size_t count);
/* The same over floats, by their IEEE bits in little-endian order. */
DLS_API uint64_t dls_hash64_reals(uint64_t hash, const dls_real *x, size_t count);

/* ------------------------------------------------------------------------------------------------
   >>port.api   clock, threads, files: everything the OS gives                  deps: config base
   Each hook is a macro of the same signature as its default; define all DLS_FS_* or none. */

/* Microseconds on a clock that does not jump. Default: clock_gettime(CLOCK_MONOTONIC).
   Any thread. Without an OS: 0 unless DLS_NOW_US is defined. */
DLS_API uint64_t dls_now_us(void);

/* Processors this process may use, at least 1. */
DLS_API int32_t dls_cpu_count(void);

#if DLS_ENABLE_PEERS
/* Fills with unpredictable bytes, fit for keys. Hook: DLS_RANDOM(ptr, bytes), int, 0 for ok.
   Default: the kernel's generator; without an OS there is none, and the hook must be given, from a
   true noise source. DLS_E_IO: the source failed, to is zero. Any thread. */
DLS_API dls_status dls_random(void *to, size_t bytes);
#endif

/* ------------------------------------------------------------------------------------------------
   >>tensor.api   dtype, shape, views; never owns memory  deps: config base  */

typedef enum dls_dtype {
    DLS_F32 = 0, /* dls_real in memory, always float32 in files */
    DLS_I32 = 1,
    DLS_U8 = 2,
    DLS_DTYPE_COUNT
} dls_dtype;

/* One sample: rows, columns, channels; channels innermost in memory. All >= 1. */
typedef struct dls_shape {
    int32_t h, w, c;
} dls_shape;

/* A view: n samples of one shape, packed, at data. */
typedef struct dls_tensor {
    void *data;
    int32_t n;
    dls_shape shape;
    dls_dtype dtype;
} dls_tensor;

/* Bytes of one element in memory. Pure. */
DLS_API size_t dls_dtype_bytes(dls_dtype dtype);
/* h*w*c, or 0 when an axis is < 1 or the product exceeds DLS_DIM_MAX. Pure. */
DLS_API size_t dls_shape_count(dls_shape shape);
/* Pure. */
DLS_API bool dls_shape_equal(dls_shape a, dls_shape b);

/* ------------------------------------------------------------------------------------------------
   >>kern.api   instruction sets and activations  deps: config  */

/* Which kernels run. The value is part of a benchmark's and a bug report's context. */
typedef enum dls_isa {
    DLS_ISA_BEST = 0, /* in a desc: the best this CPU has */
    DLS_ISA_SCALAR,
    DLS_ISA_NEON,
    DLS_ISA_AVX2,
    DLS_ISA_AVX512,
    DLS_ISA_COUNT
} dls_isa;

/* The best instruction set of this CPU among those compiled in. Costs microseconds: call once. */
DLS_API dls_isa dls_isa_best(void);
/* "scalar", "neon", "avx2", "avx512". Pure. */
DLS_API const char *dls_isa_name(dls_isa isa);
/* Whether this build and this CPU can run isa. */
DLS_API bool dls_isa_usable(dls_isa isa);

/* Activations y = f(x). */
typedef enum dls_act {
    DLS_ACT_NONE = 0,
    DLS_ACT_RELU,    /* max(x, 0) */
    DLS_ACT_RELU6,   /* min(max(x, 0), 6) */
    DLS_ACT_LEAKY,   /* x > 0 ? x : slope x, slope 0.01 unless given */
    DLS_ACT_SIGMOID, /* 1 / (1 + exp(-x)) */
    DLS_ACT_TANH,
    DLS_ACT_SILU,      /* x sigmoid(x) */
    DLS_ACT_GELU,      /* x/2 (1 + erf(x / sqrt 2)) */
    DLS_ACT_GELU_TANH, /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
    DLS_ACT_HSWISH,    /* x min(max(x + 3, 0), 6) / 6 */
    DLS_ACT_HSIGMOID,  /* min(max(x + 3, 0), 6) / 6 */
    DLS_ACT_COUNT
} dls_act;

/* "relu", ... Pure. */
DLS_API const char *dls_act_name(dls_act act);

/* ------------------------------------------------------------------------------------------------
   >>par.api   thread pool, compute context, matrix product  deps: config base port kern */

typedef struct dls_pool dls_pool;

/* threads: workers including the caller; 0: dls_cpu_count(). spin_us: how long an idle worker spins
   before it sleeps; 0: 50. Without DLS_ENABLE_THREADS a pool has one thread: the caller. */
typedef struct dls_pool_desc {
    int32_t threads;
    int32_t spin_us;
} dls_pool_desc;

/* Bytes a pool needs. Pure. */
DLS_API size_t dls_pool_size(const dls_pool_desc *desc);
/* Starts the workers inside mem. Errors: DLS_E_MEMORY (too few bytes, or the OS gave no thread),
   DLS_E_ARG (threads out of 0..DLS_THREADS_MAX). Thread: owner. */
DLS_API dls_status dls_pool_init(dls_pool **pool, const dls_pool_desc *desc, void *mem,
                                 size_t bytes);
/* Stops and joins the workers. NULL is fine. */
DLS_API void dls_pool_close(dls_pool *pool);
/* Workers including the caller; 1 for NULL. */
DLS_API int32_t dls_pool_threads(const dls_pool *pool);
#if DLS_ENABLE_HEAP
/* The same over DLS_MALLOC; NULL desc: every default. NULL on failure. */
DLS_API dls_pool *dls_pool_create(const dls_pool_desc *desc);
DLS_API void dls_pool_destroy(dls_pool *pool);
#endif

/* One piece of a parallel job; thread is 0..threads-1, for indexing scratch memory. */
typedef void (*dls_task_fn)(void *arg, int32_t task, int32_t thread);

/* Runs fn for tasks 0..count-1, each once, and returns when all are done. Which thread runs which
   is not fixed, so the result must not depend on it. A pool runs one job at a time: calls from
   several threads are not allowed, nor calls from within a task. pool may be NULL: the caller runs
   all. */
DLS_API void dls_parallel_for(dls_pool *pool, int32_t count, dls_task_fn fn, void *arg);

/* How to compute: kernels and threads. Plain data, copied freely; the pool must outlive it. */
typedef struct dls_cx {
    const void *kern; /* the kernel table of isa and strict; private */
    dls_pool *pool;   /* NULL: the calling thread alone */
    dls_isa isa;
    bool strict; /* multiply, round, add, round: same bits on every CPU */
} dls_cx;

/* isa DLS_ISA_BEST: detected. Errors: DLS_E_UNSUPPORTED when isa is not compiled in or not had. */
DLS_API dls_status dls_cx_init(dls_cx *cx, dls_isa isa, bool strict, dls_pool *pool);

/* count values at x are final: how long work tells who waits for parts of its result. Called once
   per part, from any worker. */
typedef void (*dls_ready_fn)(void *user, dls_real *x, size_t count);

/* C = act(A B + bias), or C += A B. A: m x k, B: k x n, C: m x n, row-major, leading dimensions in
   elements. trans_a: A is stored k x m; trans_b: B is stored n x k.
   Every element of C is one sum over k in ascending order, whatever m, n, threads: equal bits. */
typedef struct dls_gemm_desc {
    int32_t m, n, k;
    const dls_real *a, *b;
    dls_real *c;
    ptrdiff_t lda, ldb, ldc; /* 0: packed */
    bool trans_a, trans_b;
    bool add;             /* C += A B instead of C = A B */
    const dls_real *bias; /* n values added to each row, or NULL */
    dls_act act;          /* NONE, RELU or RELU6 */
} dls_gemm_desc;

/* Bytes of scratch dls_gemm needs. Pure. */
DLS_API size_t dls_gemm_work(const dls_cx *cx, const dls_gemm_desc *desc);
/* work: dls_gemm_work() bytes, aligned to DLS_ALIGN. Errors: DLS_E_ARG (a size < 1, NULL matrix,
   leading dimension shorter than a row, other act). Cost: 2 m n k floating-point operations. */
DLS_API dls_status dls_gemm(const dls_cx *cx, const dls_gemm_desc *desc, void *work);

/* ------------------------------------------------------------------------------------------------
   >>op.api   one row per operation                               deps: config base tensor kern par
   Users of built-in ops need only >>net.api. This section is for those who write an op. */

/* What a builder call fixes about an op: integers and reals, saved in model files as they stand. */
typedef struct dls_attr {
    int32_t i[DLS_ATTR_INTS];
    float f[DLS_ATTR_REALS];
} dls_attr;

typedef enum dls_init {
    DLS_INIT_ZERO = 0,
    DLS_INIT_ONE,
    DLS_INIT_UNIFORM,
    DLS_INIT_NORMAL
} dls_init;

#define DLS_PARAM_NO_DECAY 1u  /* weight decay leaves it alone (biases, norms) */
#define DLS_PARAM_STATISTIC 2u /* not trained: moves by scale towards what backward writes to dw */

/* One parameter tensor of an op. init UNIFORM: in [-scale, scale]; NORMAL: deviation scale. */
typedef struct dls_param {
    const char *name; /* "weight" */
    int32_t dim[4];   /* outermost first, 1 where unused */
    uint8_t init;
    uint8_t flags;
    float scale;
} dls_param;

/* Where an op stands: what its shape rule may look at. */
typedef struct dls_op_site {
    const dls_attr *attr;
    const dls_cx *cx; /* NULL while the graph is built: sizes of work are not asked then */
    int32_t inputs;
    dls_shape x[DLS_OP_INPUTS];
    dls_dtype dtype[DLS_OP_INPUTS];
    uint32_t fixed; /* bit i: input i is the same for every sample (a parameter) */
    int32_t batch;
    bool train;
    dls_error *error; /* filled through dls_op_fail */
} dls_op_site;

/* What the shape rule answers. Zeroed before the call. All sizes in bytes. */
typedef struct dls_op_spec {
    dls_shape y;
    dls_dtype dtype;
    int32_t params;
    dls_param param[DLS_OP_PARAMS];
    double macs;         /* multiply-adds of one sample, forward */
    size_t saved_sample; /* kept from forward to backward, per sample */
    size_t saved_batch;  /* the same, per batch */
    size_t work;         /* scratch during a call */
    size_t work_thread;  /* scratch per thread during a call */
    size_t packed;       /* weights in kernel order, for inference */
    uint32_t keep_x;     /* bit i: backward reads input i */
    bool keep_y;         /* backward reads the output */
    bool alias;          /* y is x[0] unchanged: no call, same memory */
    bool residual;       /* forward can add call->residual and apply call->act; needs packed too */
    uint32_t tied;       /* bit i: of input i only the first parameter is used, as w[0] ... */
    size_t tied_count;   /* ... which must have so many elements */
    bool fixed;          /* y is the same for every sample; only for inputless ops */
    bool random;         /* forward draws random numbers when training */
    uint32_t inplace;    /* bit i: y may be written over x[i] */
    bool dx_inplace;     /* dx[0] may be the memory of dy */
} dls_op_spec;

typedef struct dls_op_call dls_op_call;

/* One forward or backward call. Tensors are packed, n samples each. */
struct dls_op_call {
    const dls_attr *attr;
    const dls_cx *cx;
    int32_t n;
    int32_t inputs;
    dls_shape xs[DLS_OP_INPUTS], ys;
    const void *x[DLS_OP_INPUTS];
    void *y;
    dls_real *dy;                /* backward may overwrite it */
    dls_real *dx[DLS_OP_INPUTS]; /* NULL: not wanted */
    uint32_t dx_add;             /* bit i: add to dx[i]; else write all of it */
    uint32_t fixed;              /* bit i: x[i] and dx[i] hold one sample for the whole batch */
    const dls_real *w[DLS_OP_PARAMS];
    dls_real *dw[DLS_OP_PARAMS]; /* NULL: not wanted */
    bool dw_add;                 /* add to dw; else write all of it */
    void *saved;
    void *work;
    unsigned char *scratch; /* per-thread scratch, see dls_op_scratch */
    size_t scratch_stride;
    const void *packed;       /* what pack() made, or NULL */
    const dls_real *residual; /* added to y before act, or NULL; only where spec.packed */
    int32_t act;              /* activation to apply instead of the op's own, -1: its own */
    bool train;
    uint64_t seed;      /* of this op at this step */
    int64_t sample;     /* number of the first sample in the whole batch, all peers */
    dls_real weight;    /* n / samples of the whole batch */
    dls_ready_fn ready; /* told of finished parts of dw; may be NULL */
    void *ready_user;
};

/* Scratch of one thread, spec.work_thread bytes. */
static inline DLSI_UNUSED void *dls_op_scratch(const dls_op_call *call, int32_t thread) {
    return call->scratch + call->scratch_stride * (size_t)thread;
}

/* How inference may merge an op with its neighbours: head, then norm, then sum, then clamp. */
typedef enum dls_merge {
    DLS_MERGE_NONE = 0,
    DLS_MERGE_HEAD, /* has pack(); its call can fold a norm, add a residual, apply an activation */
    DLS_MERGE_NORM, /* has affine() */
    DLS_MERGE_SUM,  /* adds two values */
    DLS_MERGE_CLAMP /* only applies an activation */
} dls_merge;

/* By convention an op's activation is the low byte of this attribute. */
#define DLS_ATTR_ACT (DLS_ATTR_INTS - 1)

/* A row: everything the library knows of an op. A const object that outlives its networks. */
typedef struct dls_op {
    const char *name; /* lower case, unique; in files */
    int32_t inputs_min, inputs_max;
    dls_merge merge;
    /* Must reject any attr and any shapes it cannot serve: both may come from a hostile file. */
    dls_status (*shape)(const dls_op_site *site, dls_op_spec *spec);
    dls_status (*forward)(const dls_op_call *call);
    dls_status (*backward)(const dls_op_call *call); /* NULL: no gradient passes */
    /* Weights (and scale, shift of a folded normalisation, or NULL) to packed; NULL: no packing. */
    void (*pack)(const dls_op_call *call, const dls_real *scale, const dls_real *shift,
                 void *packed);
    /* y = x scale + shift per channel from the op's parameters (norms that can be folded), or NULL
       */
    void (*affine)(const dls_op_call *call, dls_real *scale, dls_real *shift);
} dls_op;

/* Fills site->error with what and three numbers, and returns status: `return dls_op_fail(...)`.
   what must be a string literal, with {0} {1} {2} for the numbers. */
DLS_API dls_status dls_op_fail(const dls_op_site *site, dls_status status, const char *what,
                               int32_t a, int32_t b, int32_t c);

/* p = softmax(z / temperature) of n logits, in double; p may be z. For those who read a network's
   outputs: losses and ops have their own. temperature > 0. Pure. */
DLS_API void dls_softmax(const dls_real *z, int32_t n, double temperature, dls_real *p);

/* Finds a row by name; NULL when there is none. The type of the loaders' op lookup. */
typedef const dls_op *(*dls_op_find_fn)(const char *name);
/* All built-in ops. Naming it links them all: firmware gives loaders a lookup of its own. */
DLS_API const dls_op *dls_op_find(const char *name);

/* The built-in rows. A row that is not named is not linked (--gc-sections). */
DLS_API const dls_op *dls_op_input(void);
DLS_API const dls_op *dls_op_param(void);
DLS_API const dls_op *dls_op_conv2d(void);
DLS_API const dls_op *dls_op_conv_transpose(void);
DLS_API const dls_op *dls_op_linear(void);
DLS_API const dls_op *dls_op_tied_linear(void);
DLS_API const dls_op *dls_op_matmul(void);
DLS_API const dls_op *dls_op_maxpool(void);
DLS_API const dls_op *dls_op_avgpool(void);
DLS_API const dls_op *dls_op_batchnorm(void);
DLS_API const dls_op *dls_op_groupnorm(void);
DLS_API const dls_op *dls_op_layernorm(void);
DLS_API const dls_op *dls_op_rmsnorm(void);
DLS_API const dls_op *dls_op_act(void);
DLS_API const dls_op *dls_op_softmax(void);
DLS_API const dls_op *dls_op_add(void);
DLS_API const dls_op *dls_op_mul(void);
DLS_API const dls_op *dls_op_concat(void);
DLS_API const dls_op *dls_op_slice(void);
DLS_API const dls_op *dls_op_pad(void);
DLS_API const dls_op *dls_op_reshape(void);
DLS_API const dls_op *dls_op_transpose(void);
DLS_API const dls_op *dls_op_upsample(void);
DLS_API const dls_op *dls_op_dropout(void);
DLS_API const dls_op *dls_op_embedding(void);
DLS_API const dls_op *dls_op_rope(void);
DLS_API const dls_op *dls_op_attention(void);
DLS_API const dls_op *dls_op_lstm(void);
DLS_API const dls_op *dls_op_gru(void);

/* ------------------------------------------------------------------------------------------------
   >>net.api   graph builder, memory planner, executor  deps: config base tensor kern par op  */

/* A value of the graph: the output of one node. Negative: an error happened before. */
typedef int32_t dls_val;
#define DLS_VAL_NONE ((dls_val)-1)

typedef struct dls_net dls_net;
typedef struct dls_exec dls_exec;

typedef struct dls_net_desc {
    int32_t nodes_max; /* 0: DLS_NODES_DEFAULT */
    uint64_t seed;     /* of the initial weights */
} dls_net_desc;

/* Bytes of a network's metadata (not its weights). NULL desc: defaults. Pure. */
DLS_API size_t dls_net_size(const dls_net_desc *desc);
/* Errors: DLS_E_MEMORY, DLS_E_ARG (nodes_max out of 1..10922), DLS_E_ABI. Thread: owner. */
DLS_API dls_status dls_net_init_abi(dls_net **net, const dls_net_desc *desc, void *mem,
                                    size_t bytes, uint32_t abi);
static inline DLSI_UNUSED dls_status dls_net_init(dls_net **net, const dls_net_desc *desc,
                                                  void *mem, size_t bytes) {
    return dls_net_init_abi(net, desc, mem, bytes, DLS_ABI);
}
#if DLS_ENABLE_HEAP
/* The same over DLS_MALLOC; its weights are allocated when first needed. NULL on failure. */
DLS_API dls_net *dls_net_create_abi(const dls_net_desc *desc, uint32_t abi);
static inline DLSI_UNUSED dls_net *dls_net_create(const dls_net_desc *desc) {
    return dls_net_create_abi(desc, DLS_ABI);
}
DLS_API void dls_net_destroy(dls_net *net);
#endif

/* The first error of the builders, DLS_OK if none. Any thread. */
DLS_API dls_status dls_net_status(const dls_net *net);
/* That error, or else the last one of planning an executor, for dls_error_text(). */
DLS_API const dls_error *dls_net_error(const dls_net *net);

/* ---- Builders. They return the value they make, negative after an error. Thread: owner. ---- */

/* Reals, h rows by w columns by c channels per sample. */
DLS_API dls_val dls_net_input(dls_net *net, int32_t h, int32_t w, int32_t c);
/* Integers (token ids, int32), t per sample. */
DLS_API dls_val dls_net_input_ids(dls_net *net, int32_t t);
/* A trained tensor, the same for every sample; an operand of add and mul. Starts normal with the
   given deviation (0: zeros). */
DLS_API dls_val dls_net_param(dls_net *net, int32_t h, int32_t w, int32_t c, float deviation);

typedef enum dls_pad_mode {
    DLS_PAD_SAME =
        0,           /* output = ceil(input / stride), odd padding at the end (TensorFlow's rule) */
    DLS_PAD_VALID,   /* none */
    DLS_PAD_EXPLICIT /* the four pad fields */
} dls_pad_mode;

/* All-zero but channels: 3x3, stride 1, same padding, with bias. */
typedef struct dls_conv_desc {
    int32_t channels;               /* output channels */
    int32_t kernel_h, kernel_w;     /* 0: 3 and kernel_h */
    int32_t stride_h, stride_w;     /* 0: 1 and stride_h */
    int32_t dilation_h, dilation_w; /* 0: 1 and dilation_h */
    int32_t groups;                 /* 0: 1; input channels = channels: depthwise */
    dls_pad_mode pad;
    int32_t pad_top, pad_left, pad_bottom, pad_right;
    int32_t output_pad_h, output_pad_w; /* transposed only: rows and columns added at the end */
    dls_act act;
    float slope; /* of leaky ReLU, 0: 0.01 */
    bool no_bias;
} dls_conv_desc;

/* Convolution (cross-correlation), same padding, stride 1.
   y[i,j,o] = act(bias[o] + sum_{r,s,c} x[i+r-pad, j+s-pad, c] weight[r,s,c,o]).
   weight: kernel x kernel x input channels x channels. */
DLS_API dls_val dls_net_conv2d(dls_net *net, dls_val x, int32_t channels, int32_t kernel,
                               dls_act act);
DLS_API dls_val dls_net_conv2d_desc(dls_net *net, dls_val x, const dls_conv_desc *desc);
/* Depthwise convolution, same padding, one filter per channel. */
DLS_API dls_val dls_net_depthwise(dls_net *net, dls_val x, int32_t kernel, int32_t stride,
                                  dls_act act);
/* Transposed convolution, the gradient of conv2d as a forward op; output (in-1) stride - pads +
   dilation (kernel-1) + output_pad + 1. PAD_SAME: output = input x stride. groups must be 1.
   weight: kernel_h x kernel_w x channels x input channels. */
DLS_API dls_val dls_net_conv_transpose(dls_net *net, dls_val x, const dls_conv_desc *desc);

/* Fully connected: all of the sample, flattened, to units. weight: h w c x units. */
DLS_API dls_val dls_net_dense(dls_net *net, dls_val x, int32_t units, dls_act act);
/* The same weights at every position: last axis to units. weight: c x units. */
DLS_API dls_val dls_net_linear(dls_net *net, dls_val x, int32_t units, dls_act act);
DLS_API dls_val dls_net_linear_no_bias(dls_net *net, dls_val x, int32_t units, dls_act act);
/* Last axis times the transposed table of an earlier embedding: logits with tied weights. */
DLS_API dls_val dls_net_tied_linear(dls_net *net, dls_val x, dls_val embedding);
/* Per sample and row h: a (w x c) times b (w x c), c of a = w of b; b_transposed: c of b. */
DLS_API dls_val dls_net_matmul(dls_net *net, dls_val a, dls_val b, bool b_transposed);

typedef struct dls_pool2d_desc {
    int32_t kernel_h, kernel_w; /* 0: 2 and kernel_h */
    int32_t stride_h, stride_w; /* 0: the kernel */
    dls_pad_mode pad; /* 0 here means valid unless pad is DLS_PAD_EXPLICIT or same is set */
    int32_t pad_top, pad_left, pad_bottom, pad_right;
    bool same;          /* same padding */
    bool count_padding; /* average: divide by the whole window */
} dls_pool2d_desc;

/* Window kernel x kernel, stride kernel, no padding. */
DLS_API dls_val dls_net_maxpool(dls_net *net, dls_val x, int32_t kernel);
DLS_API dls_val dls_net_avgpool(dls_net *net, dls_val x, int32_t kernel);
DLS_API dls_val dls_net_maxpool_desc(dls_net *net, dls_val x, const dls_pool2d_desc *desc);
DLS_API dls_val dls_net_avgpool_desc(dls_net *net, dls_val x, const dls_pool2d_desc *desc);
/* Mean over rows and columns: 1 x 1 x c. */
DLS_API dls_val dls_net_global_avgpool(dls_net *net, dls_val x);

/* Batch normalisation over samples, rows and columns, eps 1e-5, running statistics move by 0.1.
   Ioffe & Szegedy 2015. Trained in shards, each shard normalises by its own statistics. */
DLS_API dls_val dls_net_batchnorm(dls_net *net, dls_val x, dls_act act);
/* Group normalisation per sample over rows, columns and c / groups channels. Wu & He 2018. */
DLS_API dls_val dls_net_groupnorm(dls_net *net, dls_val x, int32_t groups, dls_act act);
/* Over the last axis; eps 1e-5. Ba et al. 2016. */
DLS_API dls_val dls_net_layernorm(dls_net *net, dls_val x);
/* x / sqrt(mean(x^2) + 1e-6) gain, over the last axis. Zhang & Sennrich 2019. */
DLS_API dls_val dls_net_rmsnorm(dls_net *net, dls_val x);

/* The activation alone; builders that take an act merge it into their op. */
DLS_API dls_val dls_net_act(dls_net *net, dls_val x, dls_act act);
/* Leaky ReLU: x > 0 ? x : slope x. */
DLS_API dls_val dls_net_leaky(dls_net *net, dls_val x, float slope);
/* exp(x) / sum exp(x) over the last axis. Losses want logits, not this. */
DLS_API dls_val dls_net_softmax(dls_net *net, dls_val x);
/* Same shapes; or one operand is a parameter, or 1 x 1 x c (one value per channel and sample). */
DLS_API dls_val dls_net_add(dls_net *net, dls_val a, dls_val b, dls_act act);
DLS_API dls_val dls_net_mul(dls_net *net, dls_val a, dls_val b);
/* Joins along axis 0 (rows), 1 (columns) or 2 (channels). count: 1..64. */
DLS_API dls_val dls_net_concat(dls_net *net, const dls_val *x, int32_t count, int32_t axis);
/* Part [first, first + count) of an axis. */
DLS_API dls_val dls_net_slice(dls_net *net, dls_val x, int32_t axis, int32_t first, int32_t count);
/* parts equal slices into out[]. Returns out[0]. */
DLS_API dls_val dls_net_split(dls_net *net, dls_val x, int32_t axis, int32_t parts, dls_val *out);
/* Border rows and columns of a constant value. */
DLS_API dls_val dls_net_pad(dls_net *net, dls_val x, int32_t top, int32_t left, int32_t bottom,
                            int32_t right, float value);
/* Same elements, same order; costs nothing. */
DLS_API dls_val dls_net_reshape(dls_net *net, dls_val x, int32_t h, int32_t w, int32_t c);
/* Output axis i is input axis perm[i]; axes 0, 1, 2 = rows, columns, channels. */
DLS_API dls_val dls_net_transpose(dls_net *net, dls_val x, int32_t axis0, int32_t axis1,
                                  int32_t axis2);
/* Nearest neighbour, or bilinear with half-pixel centres (PyTorch align_corners=False). */
DLS_API dls_val dls_net_upsample(dls_net *net, dls_val x, int32_t factor, bool bilinear);
/* Zeroes with probability p and scales the rest by 1 / (1 - p), in training only. The mask comes
   from (seed, step, sample, element): the same in any split of the batch, and not stored. */
DLS_API dls_val dls_net_dropout(dls_net *net, dls_val x, float p);
/* ids (from input_ids) to rows of a table. weight: vocabulary x dim. Ids out of range: DLS_E_ARG.
   */
DLS_API dls_val dls_net_embedding(dls_net *net, dls_val ids, int32_t vocabulary, int32_t dim);
/* x + a trained h x w x c tensor that starts at zero: learned positions. */
DLS_API dls_val dls_net_position(dls_net *net, dls_val x);
/* Rotary positions on rows of heads x head_dim channels, pairs (i, i + head_dim/2); base 0: 10000.
   Su et al. 2021. */
DLS_API dls_val dls_net_rope(dls_net *net, dls_val x, int32_t heads, float base);

typedef struct dls_attention_desc {
    int32_t heads;    /* query heads; 0: 1 */
    int32_t kv_heads; /* 0: heads; must divide heads (grouped-query attention) */
    bool causal;      /* position t sees 0..t */
} dls_attention_desc;

/* softmax(q k^T / sqrt(head_dim)) v per head. q: t x 1 x heads head_dim; k, v: t' x 1 x kv_heads
   head_dim. Memory linear in t: backward recomputes the scores. Vaswani et al. 2017, Dao 2022. */
DLS_API dls_val dls_net_attention(dls_net *net, dls_val q, dls_val k, dls_val v,
                                  const dls_attention_desc *desc);
/* The same with q, k and v side by side in the channels of one value. */
DLS_API dls_val dls_net_attention_packed(dls_net *net, dls_val qkv, const dls_attention_desc *desc);
/* t x 1 x c to t x 1 x hidden. Gates i, f, g, o; PyTorch's equations; state starts at zero.
   weights: c x 4 hidden, hidden x 4 hidden, 4 hidden. */
DLS_API dls_val dls_net_lstm(dls_net *net, dls_val x, int32_t hidden);
/* Gates r, z, n; PyTorch's equations, with the inner bias of n. weights: c x 3 hidden,
   hidden x 3 hidden, 3 hidden, hidden. */
DLS_API dls_val dls_net_gru(dls_net *net, dls_val x, int32_t hidden);

/* Any op, also one of the user's. inputs: count values. The row must outlive the network. */
DLS_API dls_val dls_net_op(dls_net *net, const dls_op *op, const dls_val *inputs, int32_t count,
                           const dls_attr *attr);
/* Names the value an executor returns; the last value made when never called. */
DLS_API void dls_net_output(dls_net *net, dls_val x);

/* ---- Looking at a network. Any thread while nobody builds. ---- */

/* Nodes built so far; values are numbered 0..nodes-1. */
DLS_API int32_t dls_net_nodes(const dls_net *net);
/* The value an executor of the whole network returns, see dls_net_output. */
DLS_API dls_val dls_net_output_of(const dls_net *net);
/* Shape of one sample of a value; zeros for a bad value. */
DLS_API dls_shape dls_net_shape(const dls_net *net, dls_val x);
/* Row of a node, e.g. for its name. NULL for a bad value. */
DLS_API const dls_op *dls_net_op_of(const dls_net *net, dls_val x);
/* Inputs of a node into in[DLS_OP_INPUTS]; returns their count. */
DLS_API int32_t dls_net_inputs_of(const dls_net *net, dls_val x, dls_val *in);
/* Multiply-adds of one sample, nodes [first, last), forward. 0 in the MCU profile without peers. */
DLS_API double dls_net_macs(const dls_net *net, int32_t first, int32_t last);
/* Hash of the graph: ops, attributes, shapes, inputs; not of weights. Peers compare it. */
DLS_API uint64_t dls_net_hash(const dls_net *net);
/* Values that must travel when nodes [0, at) run elsewhere than [at, nodes): into out[max]. Returns
   their count, or -1 when the cut would part ops that inference merges or max is too small. Thread:
   owner (uses planning scratch). */
DLS_API int32_t dls_net_cut(dls_net *net, int32_t at, dls_val *out, int32_t max);

/* ---- Weights ---- */

/* Elements of all parameters, padded to 16 each: the length of dls_net_params(). Pure. */
DLS_API size_t dls_net_param_count(const dls_net *net);
/* The weights the network uses, NULL before they are bound. */
DLS_API dls_real *dls_net_params(dls_net *net);
/* Uses mem (dls_net_param_count() elements, aligned to DLS_ALIGN) for the weights; it may be flash
   when nothing trains. Values are left as they are. Errors: DLS_E_ARG, or a builder's first error.
   */
DLS_API dls_status dls_net_bind_params(dls_net *net, dls_real *mem);
/* Draws initial weights from the seed of the desc (uniform He for conv and linear, unless the op
   says otherwise). Heap networks do it by themselves when first needed. Errors: DLS_E_STATE (not
   bound, no heap), DLS_E_MEMORY, or a builder's first error. */
DLS_API dls_status dls_net_init_params(dls_net *net);
/* One parameter tensor: its place, form and elements. Errors: DLS_E_NOT_FOUND past the last one. */
DLS_API dls_status dls_net_param_of(const dls_net *net, dls_val node, int32_t index,
                                    dls_param *param, size_t *offset, size_t *count);
/* Tell executors that weights were changed from outside. Training does so itself. */
DLS_API void dls_net_touch(dls_net *net);

/* ---- Executor: a plan to run nodes [first, last) of a network, and the memory for it ---- */

typedef struct dls_exec_desc {
    int32_t batch;       /* most samples in one call; 0: 1 */
    int32_t first, last; /* node range; last 0: all. Inputs of the range are imported values */
    dls_isa isa;         /* 0: best */
    bool strict;         /* same bits on every CPU */
    bool train;          /* plan backward too */
    bool input_grad;     /* backward reaches the inputs; always so for imported values */
    bool no_fuse;        /* inference: run every node by itself */
    dls_pool *pool;      /* NULL: one thread */
} dls_exec_desc;

/* Bytes of a plan, everything included, gradients of weights too when training. 0 on error, which
   dls_net_error() then tells. Thread: owner of net (uses its planning scratch). */
DLS_API size_t dls_exec_size(dls_net *net, const dls_exec_desc *desc);
DLS_API dls_status dls_exec_init(dls_exec **exec, dls_net *net, const dls_exec_desc *desc,
                                 void *mem, size_t bytes);
#if DLS_ENABLE_HEAP
/* NULL desc: batch 1, inference. NULL on failure, then see dls_net_error(). */
DLS_API dls_exec *dls_exec_create(dls_net *net, const dls_exec_desc *desc);
DLS_API void dls_exec_destroy(dls_exec *exec);
#endif

/* Memory of the i-th input (or imported value) of the range, batch samples; NULL past the last.
   Write it before each forward: it may be reused during the run. */
DLS_API void *dls_exec_input(dls_exec *exec, int32_t i);
/* Which value that is; DLS_VAL_NONE past the last. */
DLS_API dls_val dls_exec_input_val(const dls_exec *exec, int32_t i);
/* Output of the network, or of the last node of the range. */
DLS_API const dls_real *dls_exec_output(const dls_exec *exec);
/* Memory of a value the range makes or imports, if the plan keeps it to the end; else NULL. */
DLS_API const void *dls_exec_value(const dls_exec *exec, dls_val x);
/* Runs n samples forward. Errors: DLS_E_ARG (n out of 1..batch), DLS_E_STATE (weights not bound),
   or what an op reports. Thread: owner. */
DLS_API dls_status dls_exec_forward(dls_exec *exec, int32_t n);
/* As forward, with training behaviour (batch statistics, dropout) of one step. sample, total: where
   these n samples stand in the whole batch; total 0: alone. */
DLS_API dls_status dls_exec_forward_train(dls_exec *exec, int32_t n, uint64_t seed, int64_t sample,
                                          int64_t total);
/* Where the gradient of the output goes before backward. */
DLS_API dls_real *dls_exec_output_grad(dls_exec *exec);
/* Gradient of an input after backward; NULL if not planned. */
DLS_API const dls_real *dls_exec_input_grad(const dls_exec *exec, int32_t i);
/* Gradients of the weights, laid out as dls_net_params(); NULL unless training. */
DLS_API dls_real *dls_exec_grads(dls_exec *exec);
/* From the output's gradient to the weights' (added to them when add) and the inputs'. */
DLS_API dls_status dls_exec_backward(dls_exec *exec, bool add);
/* What the last failed call ran into; status DLS_OK if none failed. */
DLS_API const dls_error *dls_exec_error(const dls_exec *exec);
/* Bytes of the planned parts, for reports: activations, gradients, scratch, packed weights. */
typedef struct dls_exec_memory {
    size_t total, tables, values, scratch, packed, grads;
    size_t live_peak; /* lower bound of values: most bytes alive at one time */
} dls_exec_memory;
DLS_API void dls_exec_memory_of(const dls_exec *exec, dls_exec_memory *memory);

/* ------------------------------------------------------------------------------------------------
   >>model.api   file format                              deps: config base port tensor op net
   A model file is little-endian: header, table of sections, sections; layout in >>model.impl. */

/* A validated view of a model file in memory. */
typedef struct dls_model {
    const unsigned char *bytes;
    size_t size;
    uint64_t hash; /* dls_net_hash() of the graph */
    int32_t nodes;
    size_t param_count;
    size_t at[5], length[5]; /* sections: private */
} dls_model;

/* Checks header, checksums and bounds of bytes[0..size). bytes must stay while *model is used.
   Errors: DLS_E_FORMAT, DLS_E_CHECKSUM, DLS_E_VERSION; *error may be NULL. Thread: any. */
DLS_API dls_status dls_model_open(dls_model *model, const void *bytes, size_t size,
                                  dls_error *error);
/* What dls_model_build calls; that is inline, so that firmware whose lookup names only some ops
   does not link them all. */
DLS_API dls_status dlsi_model_build(const dls_model *model, dls_net *net, dls_op_find_fn find);
/* Rebuilds the graph in an empty network; every shape rule runs again. find NULL: dls_op_find.
   Errors: DLS_E_NOT_FOUND (unknown op), DLS_E_FORMAT, DLS_E_LIMIT, DLS_E_STATE (not empty), those
   of the shape rules; dls_net_error() tells more. */
static inline DLSI_UNUSED dls_status dls_model_build(const dls_model *model, dls_net *net,
                                                     dls_op_find_fn find) {
    return dlsi_model_build(model, net, find != NULL ? find : dls_op_find);
}
/* Copies the weights into a network built from the model, bound or on the heap. Errors:
   DLS_E_STATE, DLS_E_MISMATCH (another graph). */
DLS_API dls_status dls_model_params(const dls_model *model, dls_net *net);
/* The weights where they are, for dls_net_bind_params on flash; NULL when they cannot be used in
   place (bytes not aligned to 4, big-endian device, DLS_REAL64). */
DLS_API const dls_real *dls_model_params_in_place(const dls_model *model);
/* Text kept with the model, "key=value" lines; *size bytes, not terminated. NULL: none. */
DLS_API const char *dls_model_meta(const dls_model *model, size_t *size);
/* The number after key= in the meta text, or otherwise. */
DLS_API double dls_model_number(const dls_model *model, const char *key, double otherwise);

/* Text to be saved with a network, at most 64 KB, which the caller keeps alive; NULL: none. */
DLS_API void dls_net_set_meta(dls_net *net, const char *text);
/* Bytes of the file of a network. 0 on error. */
DLS_API size_t dls_model_size(const dls_net *net);
/* Writes the file to mem. Errors: DLS_E_MEMORY, DLS_E_STATE (no weights), builders' errors. */
DLS_API dls_status dls_model_write(const dls_net *net, void *mem, size_t bytes);
#if DLS_ENABLE_FILES && DLS_ENABLE_HEAP
/* Saves and loads by path. Saving replaces the file as a whole: written beside it, synced, renamed.
   Errors: DLS_E_IO, DLS_E_FULL, DLS_E_NOT_FOUND, those of the functions above; *error may be NULL.
   */
DLS_API dls_status dls_net_save(const dls_net *net, const char *path, dls_error *error);
DLS_API dls_status dls_net_load(dls_net **net, const char *path, dls_error *error);
/* A model file's bytes in fresh memory, validated; free model->bytes with DLS_FREE. */
DLS_API dls_status dls_model_read(dls_model *model, const char *path, dls_error *error);
#endif

/* ------------------------------------------------------------------------------------------------
   >>train.api   losses, optimisers, data, fit, gradient check
  deps: config base port tensor kern par op net model     */
#if DLS_ENABLE_TRAIN

/* ---- Losses, on logits z of k classes at each position of each sample ---- */

typedef enum dls_loss_kind {
    DLS_LOSS_CROSS_ENTROPY = 0, /* -log softmax(z)[label] */
    DLS_LOSS_MSE,               /* mean over elements of (z - t)^2 */
    DLS_LOSS_BCE,               /* mean over elements of -(t log s(z) + (1-t) log(1 - s(z))) */
    DLS_LOSS_KL /* T^2 KL(softmax(t / T) || softmax(z / T)), t: a teacher's logits */
} dls_loss_kind;

typedef struct dls_loss_desc {
    dls_loss_kind kind;
    float smoothing; /* cross-entropy: that much of the target spread over all classes */
    const float
        *class_weights; /* cross-entropy: k factors of a position's loss by its label; or NULL */
    float temperature;  /* KL: T, 0: 1 */
    float alpha;        /* KL with labels: (1 - alpha) cross-entropy + alpha KL; 0: 1 */
} dls_loss_desc;

/* What the outputs of n samples should be. Cross-entropy: label per position (-1: ignored), or
   values as probabilities when label is NULL. Others: values, as many as outputs. */
typedef struct dls_target {
    const int32_t *label;
    const int32_t *label2; /* mixup: second label and its share per sample, or NULL */
    const float *share2;
    const dls_real *values;
} dls_target;

typedef struct dls_loss_sums {
    double loss;      /* sum over positions */
    double positions; /* counted positions (elements' rows for MSE and BCE) */
    double correct;   /* positions whose greatest logit is the label */
} dls_loss_sums;

/* Loss of n samples of the given shape and, when grad is not NULL, the gradient of scale times the
   sum of losses. grad may be z. Adds to *sums. Errors: DLS_E_ARG (label out of range, targets
   missing), DLS_E_NUMBER (loss is not finite). Cost O(n h w c). Thread: any. */
DLS_API dls_status dls_loss(const dls_cx *cx, const dls_loss_desc *desc, int32_t n, dls_shape shape,
                            const dls_real *z, const dls_target *target, double scale,
                            dls_real *grad, dls_loss_sums *sums);

/* ---- Optimisers; formulas and defaults are PyTorch's ---- */

typedef enum dls_optim_kind {
    DLS_OPTIM_SGD = 0, /* lr 0.01, momentum 0, optionally Nesterov */
    DLS_OPTIM_ADAM,    /* lr 0.001, betas 0.9 0.999, eps 1e-8; decay as L2. Kingma & Ba 2015 */
    DLS_OPTIM_ADAMW,   /* the same with decoupled decay, 0.01. Loshchilov & Hutter 2019 */
    DLS_OPTIM_RMSPROP, /* lr 0.01, beta2 (alpha) 0.99, eps 1e-8, optional momentum */
    DLS_OPTIM_LION     /* lr 1e-4, betas 0.9 0.99, decoupled decay. Chen et al. 2023 */
} dls_optim_kind;

typedef enum dls_schedule {
    DLS_SCHEDULE_CONSTANT = 0,
    DLS_SCHEDULE_COSINE, /* from lr to lr_min at step total_steps, half a cosine */
    DLS_SCHEDULE_STEP    /* times gamma every step_every steps */
} dls_schedule;

typedef struct dls_optim_desc {
    dls_optim_kind kind;
    float lr;                /* 0: the kind's default */
    float momentum;          /* SGD, RMSProp */
    bool nesterov;           /* SGD */
    float weight_decay;      /* 0: the kind's default; negative: none */
    bool decay_all;          /* biases and norms decay too */
    float beta1, beta2, eps; /* 0: the kind's default */
    float clip_norm;         /* scale gradients so that their L2 norm is at most this; 0: off */
    dls_schedule schedule;
    int64_t warmup_steps; /* lr rises linearly from lr / warmup_steps */
    int64_t total_steps;  /* cosine; 0: dls_fit takes all of its epochs, or its steps if more */
    int64_t step_every;   /* step schedule; 0: 1000 */
    float gamma;          /* step schedule; 0: 0.1 */
    float lr_min;
} dls_optim_desc;

/* Learning rate of a step, counted from 0. Pure. */
DLS_API double dls_optim_lr(const dls_optim_desc *desc, int64_t step);
/* Numbers of state per weight: 0, 1 or 2. Pure. */
DLS_API int32_t dls_optim_slots(const dls_optim_desc *desc);

/* ---- Data ---- */

typedef struct dls_data {
    const void *x;   /* count samples of shape, packed */
    dls_dtype dtype; /* U8 (scaled by 1/255), F32 (float, also in DLS_REAL64 builds) or I32 */
    dls_shape shape;
    int32_t count;
    const int32_t *label; /* one per sample, or NULL */
    const float *values;  /* values_each per sample, or NULL */
    int32_t values_each;
    int32_t classes; /* 1 + greatest label */
    float mean[4],
        std[4];     /* (x - mean) / std per channel, the last entry serving the rest; std 0: off */
    void *owned[3]; /* what dls_data_close frees */
} dls_data;

/* Small random changes of image samples, drawn from (seed, epoch, sample): the same on any peer. */
typedef struct dls_augment {
    int32_t shift;  /* up to that many rows and columns each way, zeros come in */
    bool flip;      /* left-right, half of the samples */
    int32_t crop;   /* pad by that many, cut the size out at random (He et al. 2016) */
    int32_t cutout; /* a square of that side set to zero (DeVries & Taylor 2017) */
    float mixup;    /* Beta(a, a) mixture with another sample (Zhang et al. 2018) */
} dls_augment;

/* An IDX image of bytes in memory (LeCun's format): fields of *data that it fills, which points
   into it. labels NULL: none, else checked only; they become data->label by the caller's hand.
   The memory must stay. Errors: DLS_E_FORMAT, *data is then as it was. Thread: any. */
DLS_API dls_status dls_data_from_idx(dls_data *data, const void *images, size_t image_bytes,
                                     const void *labels, size_t label_bytes, dls_error *error);
/* Inflates a gzip member (RFC 1951, 1952) into out; *written bytes. Checks CRC and length. out
   NULL: only tells the size the trailer claims. Errors: DLS_E_FORMAT, DLS_E_CHECKSUM,
   DLS_E_MEMORY (out is too short). */
DLS_API dls_status dls_gunzip(const void *bytes, size_t count, void *out, size_t out_bytes,
                              size_t *written);
/* Copies samples index[0..n) to x as reals (or int32), normalised and augmented; labels to
   label[n], mixup partners to label2[n], share2[n], values to values; each of these may be NULL,
   without label2 nothing is mixed. Errors: DLS_E_ARG (index out of range, labels asked for that
   there are not). Thread: any. */
DLS_API dls_status dls_data_fetch(const dls_data *data, const dls_augment *augment, uint64_t seed,
                                  const int32_t *index, int32_t n, void *x, int32_t *label,
                                  int32_t *label2, float *share2, dls_real *values);
#if DLS_ENABLE_FILES && DLS_ENABLE_HEAP
/* Opens NAME-images-idx3-ubyte[.gz] with NAME-labels-idx1-ubyte[.gz]; or NAME ending in .csv (first
   column the label, the rest reals; a header line is skipped), or in .npy (f4, u1 or i4; labels
   from NAME without .npy + "-labels.npy" if there). Errors: DLS_E_NOT_FOUND, DLS_E_IO,
   DLS_E_FORMAT, DLS_E_CHECKSUM, DLS_E_MEMORY; *error (may be NULL) says which file and why. */
DLS_API dls_status dls_data_open(dls_data *data, const char *name, dls_error *error);
DLS_API void dls_data_close(dls_data *data);
/* A whole file, inflated if it is gzip; *bytes to be freed with DLS_FREE. */
DLS_API dls_status dls_file_read(const char *path, void **bytes, size_t *count, dls_error *error);
#endif
#if DLS_ENABLE_STB_IMAGE
/* An image file as h x w x c reals 0..1 (c 1, 3 or 4), resized to shape: the mean of the pixels
   that one covers, the nearest when enlarged. Through the stb_image.h that the user includes
   beforehand. Errors: DLS_E_ARG (shape), DLS_E_FORMAT, DLS_E_NOT_FOUND, DLS_E_IO, DLS_E_MEMORY. */
DLS_API dls_status dls_image_load(const char *path, dls_shape shape, dls_real *x);
#endif

/* ---- Trainer: an executor, optimiser state and, in exact mode, integer sums ---- */

typedef struct dls_train dls_train;

typedef struct dls_train_desc {
    int32_t batch; /* samples of a step; 0: 64 */
    int32_t
        accumulate; /* a step in that many parts, run one after the other, to save memory; 0: 1 */
    int32_t shards; /* 0: fast. Else exact mode: the step is cut in so many logical shards, at most
                           batch, whose gradients are summed in integers: equal bits for any split
                           */
    dls_loss_desc loss;
    dls_optim_desc optim;
    uint64_t seed; /* of dropout, shuffling, augmentation */
    dls_isa isa;
    bool strict;
    dls_pool *pool;
} dls_train_desc;

typedef struct dls_step_stats {
    double loss;      /* mean over positions */
    double accuracy;  /* share of positions right, cross-entropy only */
    double grad_norm; /* when clipping, else 0 */
    int32_t
        redone; /* exact mode: passes repeated because gradients outgrew their predicted scale */
} dls_step_stats;

/* Bytes a trainer needs. 0 on error, which dls_net_error() tells. */
DLS_API size_t dls_train_size(dls_net *net, const dls_train_desc *desc);
DLS_API dls_status dls_train_init(dls_train **train, dls_net *net, const dls_train_desc *desc,
                                  void *mem, size_t bytes);
#if DLS_ENABLE_HEAP
DLS_API dls_train *dls_train_create(dls_net *net, const dls_train_desc *desc);
DLS_API void dls_train_destroy(dls_train *train);
#endif
/* One step on n samples (1..batch): forward, loss, backward, update. x: inputs, n samples packed.
   Errors: DLS_E_ARG, DLS_E_NUMBER (NaN or infinity in loss or gradients: weights are unchanged when
   clipping or in exact mode), op errors. Thread: owner. */
DLS_API dls_status dls_train_step(dls_train *train, const void *x, const dls_target *target,
                                  int32_t n, dls_step_stats *stats);
/* The same on samples `index` of a data set, fetched part by part. */
DLS_API dls_status dls_train_step_data(dls_train *train, const dls_data *data,
                                       const dls_augment *augment, const int32_t *index, int32_t n,
                                       dls_step_stats *stats);
/* Steps done, and the 64-bit hash of weights, optimiser state and step count. */
DLS_API int64_t dls_train_steps(const dls_train *train);
DLS_API uint64_t dls_train_hash(const dls_train *train);
DLS_API dls_exec *dls_train_exec(dls_train *train);

/* Exact mode by hand, for those who spread shards over devices. A step is: begin; shard s for each
   s of mine; sum `sums` (int32) and take the maximum of `scales` (uint8) over all devices; commit.
   When commit sets *redo, scales did not fit: do the step again from begin (rare; all devices come
   to the same verdict). Errors as dls_train_step. */
typedef struct dls_exact {
    int32_t *sums;
    size_t sums_count;
    uint8_t *scales;
    size_t scales_count;
    int32_t shards;
} dls_exact;
DLS_API dls_status dls_train_begin(dls_train *train, int32_t n);
DLS_API dls_status dls_train_shard_data(dls_train *train, const dls_data *data,
                                        const dls_augment *augment, const int32_t *index,
                                        int32_t shard);
DLS_API void dls_train_exact(dls_train *train, dls_exact *exact);
DLS_API dls_status dls_train_commit(dls_train *train, bool *redo, dls_step_stats *stats);

#if DLS_ENABLE_FILES && DLS_ENABLE_HEAP
/* A checkpoint is a model file with the state of a trainer: dls_net_load opens it too. Saving
   replaces the file as a whole. Errors: as dls_net_save; loading also DLS_E_MISMATCH (another
   network, optimiser or number of shards) and DLS_E_STATE (a model without training state). */
DLS_API dls_status dls_train_save(const dls_train *train, const char *path, dls_error *error);
DLS_API dls_status dls_train_load(dls_train *train, const char *path, dls_error *error);
#endif

/* ---- Fit ---- */

typedef struct dls_progress {
    int64_t step, steps; /* done, in all */
    int32_t epoch, epochs;
    double loss, accuracy; /* mean since the last report */
    double samples_per_s, lr, seconds;
} dls_progress;
/* Return false to stop: dls_fit saves a checkpoint, if it has a path, and returns DLS_E_STOPPED. */
typedef bool (*dls_progress_fn)(void *user, const dls_progress *progress);
/* Writes a report as one line of text, after a bar of that many characters if bar > 0. Returns buf;
   150 bytes hold it with a bar of 30. Pure. */
DLS_API char *dls_progress_text(const dls_progress *progress, int32_t bar, char *buf, size_t bytes);

typedef struct dls_fit_desc {
    dls_train_desc train;
    dls_augment augment;
    int32_t epochs;  /* 0: 1 */
    int64_t steps;   /* stop after that many steps in all; 0: epochs decide */
    int32_t threads; /* when train.pool is NULL: 0: all processors */
    const char
        *checkpoint; /* file to write at the end, on stop, and every so many steps; or NULL */
    int64_t checkpoint_every;
    const char *resume; /* checkpoint to go on from, or NULL */
    dls_progress_fn progress;
    void *user;
    int32_t progress_ms; /* 0: 100 */
} dls_fit_desc;

typedef struct dls_fit_report {
    int64_t steps, samples;
    int32_t epochs, redone;
    double seconds, samples_per_s, loss, accuracy; /* of the last epoch, on training data */
    uint64_t state_hash;
} dls_fit_report;

/* Order of samples in an epoch: index of position i. Pure. */
DLS_API int32_t dls_fit_index(uint64_t seed, int32_t epoch, int32_t count, int32_t i);

#if DLS_ENABLE_HEAP
/* Trains net on data on this device. Errors: those of a step; DLS_E_STOPPED; of the checkpoint. */
DLS_API dls_status dls_fit(dls_net *net, const dls_data *data, const dls_fit_desc *desc,
                           dls_fit_report *report);
typedef struct dls_eval_report {
    double loss, accuracy, seconds;
    int32_t samples;
} dls_eval_report;
/* Loss and accuracy of inference on data. loss NULL: cross-entropy. pool NULL: one thread. batch 0:
   64. */
DLS_API dls_status dls_eval(dls_net *net, const dls_data *data, const dls_loss_desc *loss,
                            int32_t batch, dls_pool *pool, dls_eval_report *report);
#endif

/* ---- Gradient check ---- */

typedef struct dls_grad_report {
    double worst;  /* greatest |analytic - numeric| / max(1, |analytic|, |numeric|) */
    int32_t node;  /* whose parameter, or -1: an input */
    int32_t index; /* parameter tensor or input */
    size_t element;
} dls_grad_report;

#if DLS_ENABLE_HEAP
/* Compares backward with central differences of sum(r y), r random, at the net's present weights
   and random inputs of n samples, at up to probes elements of each tensor (0: 64). Meaningful to
   1e-6 in DLS_REAL64 builds, to about 1e-2 else. eps 0: 1e-5 in doubles, 1e-2 else. For authors of
   ops. */
DLS_API dls_status dls_grad_check(dls_net *net, int32_t n, uint64_t seed, double eps,
                                  int32_t probes, dls_grad_report *report);
#endif
#endif /* DLS_ENABLE_TRAIN */

#if DLS_ENABLE_PEERS
/* ------------------------------------------------------------------------------------------------
   >>crypt.api   X25519, ChaCha20-Poly1305, BLAKE2s, Ed25519  deps: config base port
   The suite 25519_ChaChaPoly_BLAKE2s, never negotiated. No memory, no tables indexed by secrets, no
   branch on secrets; on processors whose multiply takes a time that depends on its operands
   (Cortex-M3) that cannot be promised. Buffers may stand at any address. Any thread.
   Hooks, each of the shape of what it replaces; those that return int give 0 for ok:
     DLS_MEMZERO(ptr, bytes)                      DLS_X25519(out32, secret32, public32): void
     DLS_AEAD_SEAL(to, tag16, from, bytes, ad, ad_bytes, nonce12, key32): void
     DLS_AEAD_OPEN(to, from, bytes, tag16, ad, ad_bytes, nonce12, key32): int
     DLS_HASH_INIT(b, key, key_bytes, out_bytes)  DLS_HASH_UPDATE(b, data, bytes)
     DLS_HASH_FINAL(b, out): all three, with a state of their own inside *b
     DLS_ED25519_VERIFY(sig64, msg, bytes, public32): int
     DLS_SHA512(out64, a, a_bytes, b, b_bytes, c, c_bytes): of a, b, c one after the other  */

/* Zeros that the compiler does not optimise away. mem may be NULL when bytes is 0. */
DLS_API void dls_wipe(void *mem, size_t bytes);
/* Whether a and b are alike, in a time that depends on bytes alone. Pure. */
DLS_API bool dls_equal(const void *a, const void *b, size_t bytes);

/* out = secret * public (RFC 7748 section 5): the secret both ends of an exchange share. secret is
   clamped here, the top bit of public ignored. DLS_E_AUTH: public is a point of small order, out is
   zero. out may be either input. Pure. */
DLS_API dls_status dls_x25519(unsigned char *out32, const unsigned char *secret32,
                              const unsigned char *public32);
/* The public key of a secret: 32 random bytes. Pure. */
DLS_API void dls_x25519_public(unsigned char *public32, const unsigned char *secret32);

/* ChaCha20-Poly1305 (RFC 8439 section 2.8). A nonce must never serve twice under one key. to: as
   many bytes as from, and the same place or wholly another. At most 2^38 - 64 bytes. from may be
   NULL when bytes is 0, ad when ad_bytes is. Pure. */
DLS_API void dls_aead_seal(void *to, unsigned char *tag16, const void *from, size_t bytes,
                           const void *ad, size_t ad_bytes, const unsigned char *nonce12,
                           const unsigned char *key32);
/* DLS_E_AUTH: forged, or another key, nonce or ad; to is untouched then. Pure. */
DLS_API dls_status dls_aead_open(void *to, const void *from, size_t bytes,
                                 const unsigned char *tag16, const void *ad, size_t ad_bytes,
                                 const unsigned char *nonce12, const unsigned char *key32);

/* BLAKE2s (RFC 7693), keyed or not. out_bytes: 1..32, key_bytes: 0..32. Update as often as wanted,
   final once; it wipes the state. */
typedef struct dls_blake2s {
    uint32_t h[8];
    uint64_t count; /* bytes compressed */
    uint8_t buf[64];
    uint32_t used, out;
} dls_blake2s;
DLS_API void dls_blake2s_init(dls_blake2s *b, const void *key, size_t key_bytes, size_t out_bytes);
DLS_API void dls_blake2s_update(dls_blake2s *b, const void *data, size_t bytes);
DLS_API void dls_blake2s_final(dls_blake2s *b, void *out);
/* The three in one. Pure. */
DLS_API void dls_hash(void *out, size_t out_bytes, const void *key, size_t key_bytes,
                      const void *data, size_t bytes);
/* HMAC-BLAKE2s (RFC 2104), as Noise has it beside the keyed form. Pure. */
DLS_API void dls_hmac(void *out32, const void *key, size_t key_bytes, const void *data,
                      size_t bytes);
/* HKDF of the Noise specification, revision 34, section 4.3: 32 bytes each to out1, out2 and out3,
   which may be NULL. Outputs may be inputs. Pure. */
DLS_API void dls_hkdf(const void *chain32, const void *ikm, size_t bytes, void *out1, void *out2,
                      void *out3);

#if DLS_ENABLE_SIGN
/* Ed25519 (RFC 8032), strictly: S < L, public key and R canonical and not of small order, and the
   equation without cofactor: the verdicts of libsodium 1.0.18. DLS_E_AUTH: not a signature of msg
   by that key. Pure. */
DLS_API dls_status dls_ed25519_verify(const unsigned char *sig64, const void *msg, size_t bytes,
                                      const unsigned char *public32);
/* The public key of a seed: 32 random bytes. Pure. */
DLS_API void dls_ed25519_public(unsigned char *public32, const unsigned char *seed32);
/* Deterministic: the same signature for the same message. Pure. */
DLS_API void dls_ed25519_sign(unsigned char *sig64, const void *msg, size_t bytes,
                              const unsigned char *seed32);
#endif

/* ------------------------------------------------------------------------------------------------
   >>wire.api   packets, frames, control messages: pure functions over bytes  deps: config base

   THE WIRE, version 1. Everything little-endian, at fixed offsets; `tag` is a Poly1305 tag.
   A datagram link carries one packet per datagram; a byte stream u32 length + packet; a serial line
   COBS(packet + CRC-32C) + 0x00, see dls_cobs_write.

   INIT and RESP open a session (chan: Noise). Both are
      0  u8 type (1 INIT, 2 RESP)  1 u8 version 1  2 u8 pattern  3 u8 zero
      4  u32 index by which I want to be addressed
      8  u32 my device id                     12  u32 INIT: group, RESP: index of the receiver
     16  Noise message of 48 bytes and 12 of payload    76  mac1, 16    92  mac2, 16    = 108 bytes
   pattern: 1 KKpsk0, 3 NNpsk0, 0 none (plaintext, then the Noise message is the payload alone and
   the macs are missing: 28 bytes). Prologue: bytes 0..3 with type 0, then group, the caller's id,
   the called one's id: u32 each. Payload: u32 sequence, u32 boot count, u32 epoch of my roster; the
   number boot << 32 | sequence must rise with each INIT of a device. mac1: keyed with the PSK, over
   all before it, checked before anything else is done; mac2: zeros, or by a cookie over all before.
   COOKIE answers an INIT without a valid mac2 under load: u8 type 3, 3 zeros, u32 index of the
   receiver, 56 bytes of sealed cookie = 64.
   DATA: u8 type 4, u8 zero, u16 index of the receiver, u32 low half of the record counter; then the
   frames, encrypted, and the tag. The 8 bytes of head are authenticated too. Sessions of pattern 0
   on a byte stream send the frames plain, without a tag; elsewhere their keys are all zero.
   ANNOUNCE tells a network where a device is, in a datagram to many: u8 type 5, u8 version 1, 2
   zeros, u32 group, u32 device id, u32 boot count, u32 sequence, u32 random number of this run, u32
   epoch of its roster, u16 UDP port that takes its packets, u16 zero, mac, 16 = 48 bytes. boot << 32
   | sequence must rise; a run number that changes while the boot count does not is a second device
   with the same key. mac: keyed BLAKE2s-128 of the 32 bytes before it, key: first output of HKDF
   (PSK, "dls-announce"); PSK: the group's, of a SMALL device its own.

   Frames, one after the other, u8 kind first:
     0 PADDING  the rest of the packet means nothing
     1 ACK      u8 length, body: see chan, loss recovery. Only on links that lose packets
     2 CONTROL  u16 number of the first message, u16 bytes; whole messages, numbered by one another.
                A packet whose first message is not one of those expected or had is not accepted
     3 CHUNK    u32 want, u32 offset; the rest of the packet are bytes of the wanted message
     4 PING     a sign of life
     5 RELAY    u8 hops left, u32 device it is from, u32 device it is for; the rest of the packet is
                a packet: a gateway passes it on
   Control messages: u8 type, u8 flags, u16 bytes of payload. A receiver skips types it does not
   know unless flag 1 says that it must know them; payloads may grow at their end: that is how minor
   versions differ. A major version differs in `version` above.
     1 HELLO   u16 major, u16 minor, u32 devices (pattern 0, else 0), u8 bytes of a real, u8 flags
               (1: gateway), u16 wants the sender keeps, 20 bytes name, zero padded. First message
     2 WANT    u32 want, u32 tag, u32 bytes, u32 offset to begin at: send me the oldest message of
               that tag which I have not asked for yet
     3 REFUSE  u32 want, u8 status: it will not come (lengths differ, or it was withdrawn)
     4 DROP    u32 want: no longer wanted
     5 LEAVE   goodbye
     6 ROUTES  n times u32 device, u8 hops, u16 bytes: whom I can pass packets on to, how long ones
     7 ROSTER  u32 epoch, u32 bytes: I have this roster; want it by tag FFFFFFFE
     8 VOTE    u32 term, u32 term and u32 number of my view, u8 1: asking, 2: granting, 3: refusing;
               u8 1: only whether it would be granted
     9 VIEW    u8 1: proposed, 2: accepted, 3: decided; u8 zero, u16 n, u32 term, u32 number,
               u32 coordinator, n times u32 device, u32 boot count
    10 AGAIN   u32 number: what was done together in that view failed though it stands; decide
               another, so that all begin anew at one point */

#define DLS_WIRE_VERSION 1
#define DLS_HEAD_BYTES 8   /* of DATA */
#define DLS_INIT_BYTES 108 /* INIT and RESP */
#define DLS_INIT_PLAIN 28
#define DLS_COOKIE_BYTES 64
#define DLS_ANNOUNCE_BYTES 48
#define DLS_NAME_BYTES 20

typedef enum dls_packet_type {
    DLS_PACKET_INIT = 1,
    DLS_PACKET_RESP,
    DLS_PACKET_COOKIE,
    DLS_PACKET_DATA,
    DLS_PACKET_ANNOUNCE,
    DLS_PACKET_TYPES
} dls_packet_type;

typedef enum dls_frame_kind {
    DLS_FRAME_PADDING = 0,
    DLS_FRAME_ACK,
    DLS_FRAME_CONTROL,
    DLS_FRAME_CHUNK,
    DLS_FRAME_PING,
    DLS_FRAME_RELAY,
    DLS_FRAME_KINDS
} dls_frame_kind;

typedef enum dls_control_type {
    DLS_CONTROL_HELLO = 1,
    DLS_CONTROL_WANT,
    DLS_CONTROL_REFUSE,
    DLS_CONTROL_DROP,
    DLS_CONTROL_LEAVE,
    DLS_CONTROL_ROUTES,
    DLS_CONTROL_ROSTER,
    DLS_CONTROL_VOTE,
    DLS_CONTROL_VIEW,
    DLS_CONTROL_AGAIN,
    DLS_CONTROL_TYPES
} dls_control_type;

/* INIT and RESP without Noise message and macs. */
typedef struct dls_init_head {
    uint8_t type, pattern;
    uint32_t index, id, group_or_index;
} dls_init_head;
/* Pure. to: 16 bytes. */
DLS_API void dls_init_head_write(const dls_init_head *head, void *to);
/* Whether n bytes are an INIT or RESP of the size its pattern has. Errors: DLS_E_FORMAT,
   DLS_E_VERSION. Pure. */
DLS_API dls_status dls_init_head_read(dls_init_head *head, const void *from, size_t n);

typedef struct dls_data_head {
    uint32_t index, counter;
} dls_data_head;
/* Pure. to: DLS_HEAD_BYTES bytes. */
DLS_API void dls_data_head_write(const dls_data_head *head, void *to);
/* Errors: DLS_E_FORMAT. Pure. */
DLS_API dls_status dls_data_head_read(dls_data_head *head, const void *from, size_t n);

/* ANNOUNCE without its mac. */
typedef struct dls_announce {
    uint32_t group, id, boot, sequence, run, epoch;
    uint16_t port;
} dls_announce;
/* Pure. to: DLS_ANNOUNCE_BYTES, of which the last 16 are left for dls_announce_mac. */
DLS_API void dls_announce_write(const dls_announce *announce, void *to);
/* Errors: DLS_E_FORMAT, DLS_E_VERSION (group and id are read all the same). Pure. */
DLS_API dls_status dls_announce_read(dls_announce *announce, const void *from, size_t n);

/* One frame of a packet's plaintext. body: what follows the fixed fields. */
typedef struct dls_frame {
    uint8_t kind, hops;
    uint32_t a, b; /* CONTROL: first number; CHUNK: want, offset; RELAY: from, for */
    const unsigned char *body;
    size_t bytes;
} dls_frame;
/* Bytes before the body of a frame of that kind. Pure. */
DLS_API size_t dls_frame_head_bytes(dls_frame_kind kind);
/* Writes what stands before the body. to: dls_frame_head_bytes() bytes. Pure. */
DLS_API void dls_frame_write(const dls_frame *frame, void *to);
/* Takes one frame; *used bytes of n. Errors: DLS_E_FORMAT (unknown kind, cut short). Pure. */
DLS_API dls_status dls_frame_read(dls_frame *frame, const void *from, size_t n, size_t *used);

/* One control message. */
typedef struct dls_control {
    uint8_t type, flags;
    const unsigned char *payload;
    size_t bytes;
} dls_control;
/* Takes one message; *used bytes of n. Errors: DLS_E_FORMAT (cut short, shorter than its type's
   payload), DLS_E_VERSION (must be understood and is not). Unknown others come out as they are.
   Pure. */
DLS_API dls_status dls_control_read(dls_control *control, const void *from, size_t n, size_t *used);

/* HELLO's payload. */
typedef struct dls_hello {
    uint32_t major, minor, size, wants;
    uint8_t real_bytes, flags;
    char name[DLS_NAME_BYTES];
} dls_hello;
#define DLS_HELLO_BYTES 32
/* Pure. to, from: DLS_HELLO_BYTES bytes or more. Errors: DLS_E_FORMAT, DLS_E_VERSION. */
DLS_API void dls_hello_write(const dls_hello *hello, void *to);
DLS_API dls_status dls_hello_read(dls_hello *hello, const void *from, size_t n);

/* Serial framing: COBS(packet, CRC-32C of it in 4 bytes little-endian) and a zero byte, which stands
   nowhere else: after noise a receiver is in step again at the next zero. The CRC tells noise from
   attack; whether a packet is genuine only its own tag says. (S. Cheshire, M. Baker: Consistent
   Overhead Byte Stuffing, 1999.) */
#define DLS_COBS_BYTES(n) ((n) + 4 + ((n) + 4) / 254 + 2) /* most bytes on the line of n */

/* Frames a packet of at least 1 byte. Returns the bytes written to `to`, which must not overlap
   packet; 0: to_max is too small, or bytes is 0. Pure. O(bytes). */
DLS_API size_t dls_cobs_write(void *to, size_t to_max, const void *packet, size_t bytes);

/* A decoder over the caller's memory. */
typedef struct dls_cobs {
    unsigned char *mem;
    size_t size, used;
    uint32_t bad;       /* damaged or overlong frames so far */
    uint8_t left, code; /* bytes until the next code byte; the code before */
    bool skip;          /* overlong: to the next zero */
} dls_cobs;

/* mem: as long as the longest packet plus 4; longer ones are skipped as damaged. */
DLS_API void dls_cobs_init(dls_cobs *c, void *mem, size_t bytes);
/* Takes bytes until a packet is complete or n ran out; *taken of n. Returns the packet's size, 0:
   none yet. It stands at the start of mem until the next call. Damaged frames are counted in c->bad
   and skipped. Pure but for *c and mem. O(*taken). */
DLS_API size_t dls_cobs_read(dls_cobs *c, const void *bytes, size_t n, size_t *taken);

/* ------------------------------------------------------------------------------------------------
   >>chan.api   sessions: Noise, records, loss recovery  deps: config base port crypt wire  */

/* ---- Noise: handshakes ----
   Noise protocol framework, revision 34, suite 25519_ChaChaPoly_BLAKE2s, never negotiated. A
   message is as the specification has it, without any header; what else must agree (version, group,
   ids) goes into the prologue. Bytes beyond the payload, per message:
     DLS_NOISE_KKPSK0   48, 48       both know each other's key, from the roster
     DLS_NOISE_XXPSK3   48, 96, 64   first contact: identities go encrypted, proved by certificates
     DLS_NOISE_NNPSK0   48, 48       no identity keys: the pre-shared key is the device's own
   Payloads of first messages can be replayed and lack forward secrecy (XXPSK3's can be read and
   forged by anybody), so they carry freshness, never commands. One dls_noise is one side of one handshake; it has one
   owner at a time. */

#define DLS_NOISE_MESSAGE_MOST 65535 /* bytes of a whole message */

typedef enum dls_noise_pattern {
    DLS_NOISE_KKPSK0 = 1,
    DLS_NOISE_XXPSK3,
    DLS_NOISE_NNPSK0
} dls_noise_pattern;

/* Keys are of 32 bytes and copied; nothing is kept of what the pointers say. */
typedef struct dls_noise_desc {
    dls_noise_pattern pattern;
    bool initiator;
    const void *prologue; /* may be NULL with 0 bytes */
    size_t prologue_bytes;
    const unsigned char *secret;     /* my identity; NULL for NNPSK0 */
    const unsigned char *public_key; /* of secret, saves its computation; NULL: computed */
    const unsigned char *remote;     /* their public key, KKPSK0 only, else NULL */
    const unsigned char *psk;        /* of the group, or of the device in NNPSK0 */
    const unsigned char *ephemeral;  /* my secret for this handshake alone: dls_noise_ephemeral() */
} dls_noise_desc;

typedef struct dls_noise {
    const struct dlsi_noise_row *row; /* NULL: not begun, or split */
    uint8_t initiator, message;       /* messages gone so far */
    uint8_t keyed, nonce;             /* key is set; how often it was used */
    uint8_t heard;                    /* remote_static is known */
    unsigned char chain[32], hash[32], key[32], psk[32];
    unsigned char secret[32], ephemeral[32], public_key[32];
    unsigned char remote_static[32], remote_ephemeral[32];
} dls_noise;

/* An ephemeral secret that stays good when the random numbers are poor, as long as counter never
   repeats for this key: BLAKE2s(key; 32 random bytes, counter). key32: the identity's secret, or
   the pre-shared key. Errors: DLS_E_IO (no random numbers). Any thread. */
DLS_API dls_status dls_noise_ephemeral(unsigned char *ephemeral32, const unsigned char *key32,
                                       uint64_t counter);

/* Begins a handshake; 2 X25519 at most. Errors: DLS_E_ARG (unknown pattern; a key that the pattern
   needs is NULL, or one it has no use for is given). */
DLS_API dls_status dls_noise_init(dls_noise *n, const dls_noise_desc *desc);

/* The next message, with payload, into out. The two must not overlap. Errors, each leaving n as it was: DLS_E_STATE (not our turn, or done), DLS_E_ARG (longer
   than DLS_NOISE_MESSAGE_MOST), DLS_E_MEMORY (out_max), DLS_E_AUTH (their key was a weak one). */
DLS_API dls_status dls_noise_write(dls_noise *n, const void *payload, size_t bytes, void *out,
                                   size_t out_max, size_t *out_bytes);

/* Takes the next message; its payload into payload, which must not overlap it. Errors, each leaving
   n as it was, so that a forged message does not end a handshake: DLS_E_STATE (not their turn, or
   done), DLS_E_FORMAT (too short or too long), DLS_E_MEMORY (payload_max), DLS_E_AUTH (forged or
   damaged, other prologue or keys). */
DLS_API dls_status dls_noise_read(dls_noise *n, const void *message, size_t bytes, void *payload,
                                  size_t payload_max, size_t *payload_bytes);

/* All messages have gone: dls_noise_split() may be called. Pure. */
DLS_API bool dls_noise_done(const dls_noise *n);

/* Their public identity, 32 bytes: given, or proved by the message read last; NULL: unknown.
   Whether it belongs to a member is for the caller to find out. Pure. */
DLS_API const unsigned char *dls_noise_remote(const dls_noise *n);

/* Hash of all that was said, 32 bytes, equal on both sides when done; NULL after the split. Pure. */
DLS_API const unsigned char *dls_noise_hash(const dls_noise *n);

/* The keys of the session, for dls_session_init(); wipes n. Errors: DLS_E_STATE (not done). */
DLS_API dls_status dls_noise_split(dls_noise *n, unsigned char *send_key32,
                                   unsigned char *recv_key32);

/* ---- Records: one established session ----
   A record is ChaCha20-Poly1305 of its content: nonce = 4 zero bytes, 64-bit counter; associated
   data = the packet's header. Counters start at 0 in each direction and never repeat. Every 2^20
   records the direction's key becomes Noise's REKEY() of itself, by the counter alone, so loss and
   reordering do not matter. Not safe for several threads at once. */

#define DLS_RECORD_TAG 16

typedef struct dls_session {
    uint64_t sent;   /* counter of the next record sealed */
    uint64_t top;    /* 1 + the highest counter opened; 0: none yet */
    uint64_t forged; /* records whose tag was wrong */
    unsigned char send_key[32], recv_key[32];
    unsigned char recv_past[32];           /* the key before recv_key, for late records */
    uint32_t window[DLS_REPLAY_BITS / 32]; /* counters below top that were opened, a ring of bits */
} dls_session;

DLS_API void dls_session_init(dls_session *s, const unsigned char *send_key32,
                              const unsigned char *recv_key32);

/* Seals record s->sent: bytes of from to to (may be from), its tag to tag16.
   Errors: DLS_E_LIMIT (2^33 records: the session is dead). */
DLS_API dls_status dls_session_seal(dls_session *s, void *to, const void *from, size_t bytes,
                                    const void *ad, size_t ad_bytes, unsigned char *tag16);

/* Opens record ctr, see dls_session_counter(); to may be from. The window moves only after the tag
   was found right. Errors, to being wiped or untouched: DLS_E_AUTH (forged; counted), DLS_E_STATE
   (replayed, older than DLS_REPLAY_BITS, or more than a rekeying ahead), DLS_E_LIMIT (no record can
   have this counter, or 2^36 forgeries: the session is dead). */
DLS_API dls_status dls_session_open(dls_session *s, uint64_t ctr, void *to, const void *from,
                                    size_t bytes, const unsigned char *tag16, const void *ad,
                                    size_t ad_bytes);

/* The counter that ends in these low bits (1..32 of them) and lies nearest to the next expected
   (RFC 9000 A.3). Pure. */
DLS_API uint64_t dls_session_counter(const dls_session *s, uint32_t low, uint32_t bits);

/* Time for a fresh handshake: 2^32 records in a direction or 2^20 forgeries. The session works on
   until it is replaced, lest forgers could end it. Pure. */
DLS_API bool dls_session_stale(const dls_session *s);

/* ---- Before the handshake: mac1, cookie, mac2 (WireGuard paper, 5.4.4 and 5.4.7) ----
   mac1 shows that the sender knows the group's key, before any work for it: strangers get no
   answer. mac2 shows under load that it receives at its address. responder32: the responder's public
   key where both know it (KKPSK0), else NULL. Compare with dls_equal(). */

#define DLS_COOKIE_SEALED 44 /* nonce 12, cookie 16, tag 16 */

/* Of a handshake packet up to where mac1 stands. Pure. */
DLS_API void dls_mac1(unsigned char *mac16, const unsigned char *psk32,
                      const unsigned char *responder32, const void *packet, size_t bytes);
/* Of a handshake packet up to where mac2 stands, mac1 included. Pure. */
DLS_API void dls_mac2(unsigned char *mac16, const unsigned char *cookie16, const void *packet,
                      size_t bytes);

/* Of an ANNOUNCE, over the 32 bytes before it. Pure. */
DLS_API void dls_announce_mac(unsigned char *mac16, const unsigned char *psk32, const void *packet);

/* The responder's secret, another every 120 s. */
typedef struct dls_cookie {
    uint64_t since; /* microseconds */
    unsigned char secret[32];
} dls_cookie;

DLS_API void dls_cookie_init(dls_cookie *c, const unsigned char *random32, uint64_t now_us);
/* The cookie of a sender at this address (such as IP and port), both to give and to check mac2.
   No state per sender. now_us may jump; a jump back only lengthens the 120 s. */
DLS_API void dls_cookie_make(dls_cookie *c, const void *address, size_t bytes, uint64_t now_us,
                             unsigned char *cookie16);
/* Seals a cookie into to44 for the sender of the packet with that mac1. nonce12: random. Pure. */
DLS_API void dls_cookie_seal(unsigned char *to44, const unsigned char *cookie16,
                             const unsigned char *nonce12, const unsigned char *mac1_16,
                             const unsigned char *psk32, const unsigned char *responder32);
/* Errors: DLS_E_AUTH (forged, or the answer to another packet). Pure. */
DLS_API dls_status dls_cookie_open(unsigned char *cookie16, const unsigned char *from44,
                                   const unsigned char *mac1_16, const unsigned char *psk32,
                                   const unsigned char *responder32);

/* ---- Identity: certificates, rosters ----
   Signed by the collective's root key, offline; Ed25519 over a prefix and the BLAKE2s-256 of all
   bytes before the signature. Little-endian, at fixed offsets. Signing, and reading with a root key,
   need DLS_ENABLE_SIGN (else DLS_E_UNSUPPORTED); with root NULL nothing is verified, which is right
   only for bytes that came inside a session with a coordinator.

   Device, 54 bytes:  0 u32 id   4 u8 role   5 u8 flags   6 public key 32   38 name 16
   Certificate, 132:  0 u8 version 1   1 u8 role   2 u16 flags   4 u32 id   8 public key 32
     40 u32 group   44 u32 first epoch   48 u32 last epoch   52 name 16   68 signature 64
     prefix "dlshard/cert/v1"
   Roster:  0 u8 version 1   1 u8 0   2 u16 count   4 u32 group   8 u32 epoch   12 devices,
     ids rising   12 + 54 count  signature 64;  prefix "dlshard/roster/v1"
   Names: printable ASCII, padded with at least one zero. Time is counted in epochs of rosters, for
   want of clocks: whoever keeps a roster refuses one of a lower epoch. */

#define DLS_CERT_BYTES 132
#define DLS_ROSTER_DEVICES 1024 /* most devices of a roster */

#define DLS_ROLE_JOIN 1u    /* be a member */
#define DLS_ROLE_TRAIN 2u   /* contribute to training */
#define DLS_ROLE_SERVE 4u   /* answer inference requests */
#define DLS_ROLE_INFER 8u   /* ask for inference */
#define DLS_ROLE_COORD 16u  /* coordinate: views, plans, keys */
#define DLS_ROLE_DEPLOY 32u /* install models */

#define DLS_DEVICE_REVOKED 1u
#define DLS_DEVICE_SMALL 2u /* no identity: public key zero, NNPSK0 with dls_device_psk() */

typedef struct dls_device {
    uint32_t id;
    uint8_t role, flags;
    uint8_t public_key[32];
    char name[16];
} dls_device;

typedef struct dls_cert {
    dls_device device;
    uint32_t group, first_epoch, last_epoch; /* valid in these, both included */
} dls_cert;

typedef struct dls_roster {
    uint32_t group, epoch;
    int32_t count;
    const dls_device *device; /* ids rising */
} dls_roster;

/* Signs into to, DLS_CERT_BYTES. Errors: DLS_E_ARG (unknown role or flag; name not printable, or not
   zero-padded; a public key and SMALL, or neither; SMALL with COORD or DEPLOY, since whoever has the
   group's key can pose as a SMALL device; epochs swapped), DLS_E_UNSUPPORTED. Pure. */
DLS_API dls_status dls_cert_write(const dls_cert *cert, const unsigned char *root_seed32,
                                  unsigned char *to);
/* Errors: DLS_E_FORMAT (size, or what dls_cert_write() refuses), DLS_E_VERSION, DLS_E_AUTH (not
   signed by root), DLS_E_UNSUPPORTED. On errors *cert is not to be used. Pure. */
DLS_API dls_status dls_cert_read(dls_cert *cert, const void *from, size_t bytes,
                                 const unsigned char *root_public32);

/* Bytes of a roster of count devices; 0 when count is out of range. Pure. */
DLS_API size_t dls_roster_bytes(int32_t count);
/* Signs into to, dls_roster_bytes() of it. Errors: DLS_E_ARG (a device as in dls_cert_write(), count
   out of range, ids not rising), DLS_E_MEMORY (bytes), DLS_E_UNSUPPORTED. Pure. */
DLS_API dls_status dls_roster_write(const dls_roster *roster, const unsigned char *root_seed32,
                                    void *to, size_t bytes);
/* Reads into devices, to which roster->device then points. Errors as of dls_cert_read(), and
   DLS_E_LIMIT (more than devices_max). Pure. */
DLS_API dls_status dls_roster_read(dls_roster *roster, dls_device *devices, int32_t devices_max,
                                   const void *from, size_t bytes,
                                   const unsigned char *root_public32);
/* The device of that id, revoked or not; NULL: none. O(log count). Pure. */
DLS_API const dls_device *dls_roster_find(const dls_roster *roster, uint32_t id);

/* The pre-shared key of a SMALL device: BLAKE2s(group_psk; "dls-device", group, id). Pure. */
DLS_API void dls_device_psk(unsigned char *psk32, const unsigned char *group_psk32, uint32_t group,
                            uint32_t id);

/* ---- Loss recovery ----
   Sans I/O, one per session of a lossy link: which packets arrived, which must be sent again, when
   the next may go. It has no memory, clock or randomness of its own. Packets are named by the
   counters of their records: rising, gaps allowed. The caller owns the content: each packet that
   carries more than an ack has a 16-byte ref, given back exactly once as acked or lost. A lost one
   may have arrived all the same: receivers drop what they had. Times are microseconds of any clock;
   one that jumps back stands still, one that jumps ahead does so by at most 9 minutes a call.
   Use, whenever bytes or time come in: dls_flow_received for each new packet, dls_flow_ack_read for
   each ack in it, dls_flow_tick; take out acked and lost; send what dls_flow_room allows, with
   dls_flow_ack_write's body in front; when dls_flow_probe is still true, send an empty packet that
   counts as eliciting; when dls_flow_ack_due is still true, send an ack alone.

   Body of an ack, little-endian:
     0  u32 low half of the greatest counter received   4  u16 us since it came, 65535: or more
     6  u8 runs, 1..8   then, from the greatest counter down, as LEB128 of at most 16 bits in
     shortest form: packets of the run - 1, and for each further run before that: packets missing
     between - 1. */

#define DLS_FLOW_RUNS 8                                /* most runs of counters an ack tells */
#define DLS_FLOW_ACK_BYTES (7 + 6 * DLS_FLOW_RUNS - 3) /* longest body of an ack */

/* A packet under way: the caller gives the memory, the flow does the rest. */
typedef struct dls_sent {
    uint32_t ref[4], pn, time;
    uint16_t bytes;
    uint8_t state, spare;
} dls_sent;

/* Read-only for callers but for max_ack_delay and ack_every, which both ends should hold alike. */
typedef struct dls_flow {
    dls_sent *ring;
    uint64_t seen, pn_sent,
        pn_got; /* last time given; greatest counters, valid if head, runs > 0 */
    uint32_t clock, mask, mtu, head, oldest, newest; /* packets are numbered by place in the ring */
    uint32_t in_flight, window, threshold, peak, peak_before;
    uint32_t srtt, rttvar, latest, min_rtt, min_next, min_at, near, near_before;
    uint32_t round, recovery, w_max, epoch, epoch_k, reno;
    uint32_t undo_window, undo_seq, run_first, run_last;
    uint32_t pace, last_sent, loss_at, round_at, round_bytes, rate;
    uint32_t max_ack_delay, ack_at, got_at;
    uint16_t round_lost, round_acked, acked, lost, spurious, reorder;
    uint16_t run[DLS_FLOW_RUNS], gap[DLS_FLOW_RUNS]; /* received: packets, missing before them */
    uint8_t told[DLS_FLOW_RUNS], runs;
    uint8_t ack_every, ack_wait, pto_count, probes, samples, wait_eighths, flags;
} dls_flow;

typedef struct dls_flow_stats {
    uint32_t srtt_us, min_rtt_us; /* 0: not measured yet */
    uint32_t window_bytes, in_flight_bytes;
    uint32_t rate_bytes;          /* delivered per second, over the last round trips */
    uint32_t pto_count, spurious; /* timeouts since the last ack; losses that were none */
} dls_flow_stats;

/* ring: ring_max entries, a power of two from 4 to 32768. mtu_bytes: of one packet, 1..65535.
   Errors: DLS_E_ARG. Owner. */
DLS_API dls_status dls_flow_init(dls_flow *f, dls_sent *ring, int32_t ring_max, uint32_t mtu_bytes,
                                 uint64_t now);
/* Bytes of packets that may go out now: 0 or at least mtu_bytes. Congestion window, pacing, ring
   and probes have their say. Owner. */
DLS_API uint32_t dls_flow_room(dls_flow *f, uint64_t now);
/* A packet went out. eliciting: it carries more than an ack, so it must be acked; only when
   dls_flow_room allowed it, bytes 1..65535. ref4: 4 words, may be NULL when not eliciting. Owner. */
DLS_API void dls_flow_sent(dls_flow *f, uint64_t pn, uint32_t bytes, bool eliciting,
                           const uint32_t *ref4, uint64_t now);
/* A packet came in that had not come before. Owner. */
DLS_API void dls_flow_received(dls_flow *f, uint64_t pn, bool eliciting, uint64_t now);
/* Whether an ack should go out now: after ack_every packets, max_ack_delay, or out of order. Pure. */
DLS_API bool dls_flow_ack_due(const dls_flow *f, uint64_t now);
/* The body of an ack. Returns its size, at most max; 0: nothing received, or max is under 8. It may
   ride on any packet, also when it is not due. Owner. */
DLS_API size_t dls_flow_ack_write(dls_flow *f, void *to, size_t max, uint64_t now);
/* Reads an ack's body, *used of bytes. Errors: DLS_E_FORMAT, malformed or of what was never sent;
   the flow is then as before. Owner. Source: RFC 9002. */
DLS_API dls_status dls_flow_ack_read(dls_flow *f, const void *from, size_t bytes, size_t *used,
                                     uint64_t now);
/* Takes out the ref of a packet that is newly acked, or lost: its content must be sent again.
   false: no more. Owner. */
DLS_API bool dls_flow_next_acked(dls_flow *f, uint32_t *ref4);
DLS_API bool dls_flow_next_lost(dls_flow *f, uint32_t *ref4);
/* Time passes: losses by time, timeouts. Owner. */
DLS_API void dls_flow_tick(dls_flow *f, uint64_t now);
/* Whether something must be sent though there be nothing to say: a timeout asks for an ack. Pure. */
DLS_API bool dls_flow_probe(const dls_flow *f);
/* When a call is due: dls_flow_tick, an ack, or dls_flow_room after 0. UINT64_MAX: none. Pure. */
DLS_API uint64_t dls_flow_deadline(const dls_flow *f);
/* Pure. */
DLS_API void dls_flow_report(const dls_flow *f, dls_flow_stats *to);

/* ------------------------------------------------------------------------------------------------
   >>peer.api   engine without I/O: sessions, messages, views, routes
   deps: config base port crypt wire chan
   Bytes in, time in; bytes out, next deadline, next event out. No sockets, threads, clock, memory
   of its own. Not safe for several threads at once: its owner locks. Times are microseconds of any
   clock; jumps of it cost at most a heartbeat. A `rank` is a place in the engine's table of
   devices: the order of the roster it was made with, or the ranks of a group without keys. */

typedef struct dls_peer dls_peer;

/* Keeps `bytes` of state so that they survive a restart; returns when they do. False: it failed. */
typedef bool (*dls_store_fn)(void *user, const void *state, size_t bytes);
#define DLS_STATE_BYTES(devices) (32 + 8 * (size_t)(devices))

typedef struct dls_peer_desc {
    /* With keys: the signed roster says who belongs. Without (roster NULL): `size` ranks on links
       that are allowed to be plain, all with every role but DLS_ROLE_COORD. */
    const dls_roster *roster;
    uint32_t id;                 /* mine in the roster */
    const unsigned char *secret; /* my X25519 secret, 32 bytes; not for a DLS_DEVICE_SMALL */
    const unsigned char *psk;    /* the group's 32 bytes, a SMALL device's own; NULL: plain only */
    const unsigned char *root;   /* root's Ed25519 public key, for newer rosters; NULL: taken only
                                    from devices with DLS_ROLE_COORD */
    uint32_t boot;               /* must be greater at every start of this device */
    int32_t rank, size;          /* without a roster: who I am, how many we are (1..1024) */
    uint32_t group;              /* without a roster: both ends must agree on it */
    const char *name;            /* up to 19 bytes, for reports; NULL: "peer" */
    bool gateway;                /* pass packets on between neighbours */
    int32_t devices_max;         /* the roster may grow to; 0: as many as there are */
    int32_t sessions_max;        /* 0: devices + 4 */
    int32_t ports_max;           /* 0: sessions_max + 4 */
    int32_t ops_max;             /* sends and receives under way at once; 0: 32, MCU 8 */
    int32_t window;              /* packets in flight on a lossy link, power of 2; 0: 512, MCU 8 */
    int32_t control_bytes;       /* control messages waiting per session; 0: 2048, MCU 256 */
    int32_t relay_bytes;         /* packets a gateway holds; 0: 65536 with gateway */
    uint64_t heartbeat_us;       /* 0: 200 ms */
    uint64_t timeout_us;         /* silence after which a peer is lost; 0: 2 s */
    dls_store_fn store;          /* needed with DLS_ROLE_COORD */
    void *store_user;
    const void *stored; /* what store kept last, NULL: a device that never ran */
    size_t stored_bytes;
} dls_peer_desc;

/* Bytes an engine needs; 0 when the desc is out of range. Pure. */
DLS_API size_t dls_peer_size(const dls_peer_desc *desc);
/* Errors: DLS_E_ARG (limits; a coordinator without store; a key that is missing), DLS_E_NOT_FOUND
   (id is not in the roster), DLS_E_MEMORY, DLS_E_FORMAT (stored), DLS_E_REFUSED (I am revoked). */
DLS_API dls_status dls_peer_init(dls_peer **peer, const dls_peer_desc *desc, void *mem,
                                 size_t bytes);
/* Wipes keys. */
DLS_API void dls_peer_close(dls_peer *peer);

/* ---- Ports: where packets or bytes come and go ---- */

typedef enum dls_port_kind {
    DLS_PORT_PACKET = 1, /* datagrams to and from many addresses, lossy: UDP, ESP-NOW, CAN-FD */
    DLS_PORT_SERIAL,     /* bytes, lossy, one neighbour: UART */
    DLS_PORT_STREAM      /* bytes, in order and complete, one neighbour: TCP, pipes */
} dls_port_kind;

/* Opaque to the engine: IPv4 and port, IPv6 and port, a radio's address. */
typedef struct dls_addr {
    uint8_t size, bytes[19];
} dls_addr;

typedef struct dls_port_desc {
    dls_port_kind kind;
    int32_t mtu;  /* longest packet, bytes: 64..65535 */
    bool plain;   /* sessions without keys may open here: loopback, or a wire you trust */
    bool call;    /* SERIAL, STREAM: open a session with `rank`; else wait to be called */
    int32_t rank; /* whom */
    void *mem;    /* for the port alone, DLS_PORT_BYTES(kind, mtu), until it is closed */
    size_t bytes;
} dls_port_desc;
#define DLS_PORT_BYTES(kind, mtu)                                                                  \
    ((kind) == DLS_PORT_PACKET ? (size_t)0 : 2 * DLS_COBS_BYTES((size_t)(mtu)) + 8)

/* Returns the port's number, -1 when ports_max are open or the desc is out of range. */
DLS_API int32_t dls_peer_port_open(dls_peer *peer, const dls_port_desc *desc, uint64_t now);
/* The link broke or was closed: sessions over it are lost. */
DLS_API void dls_peer_port_close(dls_peer *peer, int32_t port, uint64_t now);
/* STREAM: the engine wants it closed, its session was refused, lost or has left. */
DLS_API bool dls_peer_port_done(const dls_peer *peer, int32_t port);

/* SERIAL, STREAM: where the next bytes read go; after reading n of them: rx_done. Errors of
   rx_done: DLS_E_FORMAT, DLS_E_AUTH, ...: a stream is then done. */
DLS_API void *dls_peer_rx_span(dls_peer *peer, int32_t port, size_t *size);
DLS_API dls_status dls_peer_rx_done(dls_peer *peer, int32_t port, size_t n, uint64_t now);
/* The same for bytes already read; all n are taken. */
DLS_API dls_status dls_peer_rx(dls_peer *peer, int32_t port, const void *bytes, size_t n,
                               uint64_t now);
/* SERIAL, STREAM: bytes to write; *size 0: none now. After writing n of them: tx_done. */
DLS_API const void *dls_peer_tx_span(dls_peer *peer, int32_t port, size_t *size, uint64_t now);
DLS_API void dls_peer_tx_done(dls_peer *peer, int32_t port, size_t n, uint64_t now);
/* PACKET: one came; bytes are decrypted in place. What does not belong here is silently dropped. */
DLS_API void dls_peer_rx_packet(dls_peer *peer, int32_t port, const dls_addr *from, void *bytes,
                                size_t n, uint64_t now);
/* PACKET: the next packet to send, at most mtu bytes into buf, and to whom. 0: none now. */
DLS_API size_t dls_peer_tx_packet(dls_peer *peer, int32_t port, dls_addr *to, void *buf,
                                  uint64_t now);
/* PACKET: `rank` may be reached at an address; a session is tried there until there is one. */
DLS_API void dls_peer_call(dls_peer *peer, int32_t rank, int32_t port, const dls_addr *to,
                           uint64_t now);
/* Time passes: heartbeats, retries, losses, elections. */
DLS_API void dls_peer_tick(dls_peer *peer, uint64_t now);
/* When dls_peer_tick or dls_peer_tx_* has work next, if nothing else happens. */
DLS_API uint64_t dls_peer_deadline(const dls_peer *peer);

/* ---- Who is there ---- */

typedef enum dls_peer_event_type {
    DLS_PEER_UP = 1, /* a session is open */
    DLS_PEER_LOST,
    DLS_PEER_LEFT,
    DLS_PEER_VIEW,  /* the view changed */
    DLS_PEER_ROSTER /* a newer roster was installed */
} dls_peer_event_type;
typedef struct dls_peer_event {
    dls_peer_event_type type;
    int32_t rank;
    dls_status status; /* why it was lost */
} dls_peer_event;
/* Takes the next event; false: none. */
DLS_API bool dls_peer_next_event(dls_peer *peer, dls_peer_event *event);
/* Peers that are up, myself included. */
DLS_API int32_t dls_peer_up(const dls_peer *peer);
DLS_API bool dls_peer_is_up(const dls_peer *peer, int32_t rank);
/* Whether the session with a peer came through a gateway. */
DLS_API bool dls_peer_is_relayed(const dls_peer *peer, int32_t rank);
/* Devices in the table; ranks are 0..count-1. */
DLS_API int32_t dls_peer_count(const dls_peer *peer);
DLS_API int32_t dls_peer_rank_of(const dls_peer *peer, uint32_t id); /* -1: not in the table */
DLS_API uint32_t dls_peer_id(const dls_peer *peer, int32_t rank);    /* the other way; 0: none */
/* Name of the roster, or what a peer of a group without keys gave; "" before its hello. */
DLS_API const char *dls_peer_name(const dls_peer *peer, int32_t rank);
/* Why the last session with a peer ended or could not open, for reports. */
DLS_API dls_status dls_peer_why(const dls_peer *peer, int32_t rank);
/* Says goodbye in all sessions; they end once that is written. */
DLS_API void dls_peer_leave(dls_peer *peer);

/* A view: who works together now. Decided by a majority of the roster's coordinators, so there is
   never more than one with a number; a device that cannot reach that majority keeps its old view
   and can decide nothing. Ongaro & Ousterhout 2014 (elections, terms), with the view as the only
   state. Without coordinators there are no views: number 0. */
typedef struct dls_view {
    uint32_t number, term;
    int32_t coordinator; /* rank */
    int32_t count;       /* members */
    const int32_t *rank; /* ascending by device id; -1: a device my roster does not have yet */
    int32_t mine;        /* my place in it, -1: I am not a member */
} dls_view;
DLS_API void dls_peer_view(const dls_peer *peer, dls_view *view);
/* What members did together failed though the view stands (two of them lost each other, say): asks
   the coordinator for a new view, where all begin anew. dls_coll calls it by itself. */
DLS_API void dls_peer_view_again(dls_peer *peer);

/* Installs a newer signed roster and passes it on: revoked devices are out at once. One of the same
   epoch only says where its bytes are now, for peers with an older one. bytes must stay. Errors:
   DLS_E_STATE (an older one), DLS_E_AUTH, DLS_E_FORMAT, DLS_E_LIMIT (devices_max), DLS_E_REFUSED (I
   am revoked). */
DLS_API dls_status dls_peer_roster(dls_peer *peer, const void *bytes, size_t count, uint64_t now);
/* Where newer rosters from peers are kept; without, none is fetched. */
DLS_API void dls_peer_roster_space(dls_peer *peer, void *mem, size_t bytes);

/* ---- Messages: memory to memory, matched by rank and tag, in order per rank and tag ---- */

typedef enum dls_class { /* what goes first over a link */
                         DLS_CLASS_ACTIVATION = 0,
                         DLS_CLASS_GRADIENT,
                         DLS_CLASS_BULK
} dls_class;

/* Moves when the receiver has asked: nothing is held in between, a message nobody asks for waits at
   its sender and delays nobody. data must stay until the op is done. Returns an op number, or -1
   when ops_max are under way. A send is done when the receiver has all bytes (STREAM: when they are
   written). Lengths must agree: else both end with DLS_E_MISMATCH. Most bytes: 2^32 - 1. */
DLS_API int32_t dls_peer_send(dls_peer *peer, int32_t rank, uint32_t tag, const void *data,
                              size_t bytes);
DLS_API int32_t dls_peer_recv(dls_peer *peer, int32_t rank, uint32_t tag, void *data, size_t bytes);
/* A receive of which the first `from` bytes are here already: goes on where a broken one stopped.
   dls_peer_op_have says how many bytes from the start are there. */
DLS_API int32_t dls_peer_recv_from(dls_peer *peer, int32_t rank, uint32_t tag, void *data,
                                   size_t bytes, size_t from);
DLS_API size_t dls_peer_op_have(const dls_peer *peer, int32_t op);
/* Right after dls_peer_send: its class, unless DLS_CLASS_GRADIENT. */
DLS_API void dls_peer_op_class(dls_peer *peer, int32_t op, dls_class kind);
/* Whether an op is finished; then *status, and the number is free for another. */
DLS_API bool dls_peer_op_done(dls_peer *peer, int32_t op, dls_status *status);
/* Forgets an op, whatever its state; the other side's ends with DLS_E_PEER. */
DLS_API void dls_peer_op_drop(dls_peer *peer, int32_t op);

/* ------------------------------------------------------------------------------------------------
   >>coll.api   all-reduce  deps: config base wire peer  */

typedef enum dls_reduce { DLS_REDUCE_SUM_I32 = 0, DLS_REDUCE_MAX_U8 } dls_reduce;

/* Collectives of one engine, one at a time; all members must start the same ones in the same order.
   */
typedef struct dls_coll {
    dls_peer *peer;
    int32_t rank, size; /* my place among the members, how many they are */
    int32_t *member;    /* their ranks in the engine's table */
    unsigned char *staging;
    size_t staging_bytes;
    int32_t room; /* most members */
    uint32_t sequence, view;
    /* the one under way: private */
    unsigned char *data;
    size_t count;
    dls_reduce reduce;
    int32_t step, send, recv;
    bool sent, received, swapped;
    dls_status status;
} dls_coll;

/* Bytes of staging for arrays of up to `bytes` among up to `size` members. Pure. */
DLS_API size_t dls_coll_size(int32_t size, size_t bytes);
/* All devices of the engine are members: rank of size. Errors: DLS_E_ARG, DLS_E_MEMORY. */
DLS_API dls_status dls_coll_init(dls_coll *coll, dls_peer *peer, int32_t rank, int32_t size,
                                 void *mem, size_t bytes);
/* From now on the members of a view are: call it at each DLS_PEER_VIEW. One that is under way is
   given up; those of another view are never mistaken for ours. Errors: DLS_E_STATE (I am not in it),
   DLS_E_LIMIT (more members than `size` of dls_coll_init), DLS_E_NOT_FOUND (a member that my roster
   does not have yet). */
DLS_API dls_status dls_coll_view(dls_coll *coll, const dls_view *view);
/* Starts a ring all-reduce in place: 2 (size - 1) steps of count / size elements each, Patarasuk &
   Yuan 2009. Integer results do not depend on the order of peers. Errors: DLS_E_ARG, DLS_E_STATE
   (one is under way), DLS_E_MEMORY (array longer than staging allows). */
DLS_API dls_status dls_coll_allreduce(dls_coll *coll, void *data, size_t count, dls_reduce reduce);
/* Goes on after bytes moved. True: finished, with *status (DLS_E_PEER when one was lost). */
DLS_API bool dls_coll_poll(dls_coll *coll, dls_status *status);

/* ------------------------------------------------------------------------------------------------
   >>job.api   data-parallel step, staged inference  deps: config base tensor par net train wire
   peer coll */

/* Shards of a step that rank works on: [*first, *first + *count), from integer shares of all ranks
   (NULL: equal). Largest remainders get the rest. Pure. */
DLS_API void dls_job_shards(const int32_t *shares, int32_t size, int32_t shards, int32_t rank,
                            int32_t *first, int32_t *count);

#if DLS_ENABLE_TRAIN
/* One data-parallel step of an exact-mode trainer: begin computes this peer's shards, then poll
   moves the reductions along until the step is committed, alike on all peers. */
typedef struct dls_job {
    dls_train *train;
    dls_coll *coll;
    const int32_t *shares;
    /* the step under way: private */
    const dls_data *data;
    const dls_augment *augment;
    const int32_t *index;
    int32_t n, phase;
    int64_t samples; /* computed here so far */
    bool stop;       /* in: I want to stop after this step; out: somebody does, all know */
} dls_job;
DLS_API dls_status dls_job_begin(dls_job *job, const dls_data *data, const dls_augment *augment,
                                 const int32_t *index, int32_t n);
/* True: the step is over, with *status. */
DLS_API bool dls_job_poll(dls_job *job, dls_status *status, dls_step_stats *stats);
#endif

/* Cuts a network in `stages` ranges of about equal work, where inference may be cut: at[0] = 0,
   at[stages] = nodes. shares weigh the stages (NULL: equal). Errors: DLS_E_ARG when it has too few
   places to cut. Thread: owner of net. */
DLS_API dls_status dls_job_cut(dls_net *net, int32_t stages, const int32_t *shares, int32_t *at);

/* ------------------------------------------------------------------------------------------------
   >>link.api   drivers: memory, simulator, TCP, UDP, serial, the user's; discovery; key files
   deps: config base port crypt wire chan peer */

/* Moves bytes both ways between two engines' SERIAL or STREAM ports until neither has more. Returns
   bytes moved. */
DLS_API size_t dls_loop_pump(dls_peer *a, int32_t port_a, dls_peer *b, int32_t port_b,
                             uint64_t now);

/* ---- Simulator: a whole cluster in one process, in virtual time, with faults by seed ----
   Peers are joined by datagrams, all with all, or hang on a serial line at another one. The same
   seed and calls give the same run, on every machine: dls_sim_trace() is the hash of all that
   happened. Memory comes from DLS_MALLOC. Examples: tests/sim. Owner. */
#if DLS_ENABLE_HEAP
typedef struct dls_sim dls_sim;

typedef struct dls_sim_desc {
    int32_t peers; /* 1..64; peer i has the rank i */
    uint64_t seed;
    const dls_peer_desc *peer; /* one each. boot counts starts; store is the simulator's own */
    const int32_t *serial_to;  /* -1, or at whose serial line peer i hangs; NULL: all datagrams */
    int32_t mtu;               /* 0: 1200, on serial lines 256 */
    int32_t baud;              /* 0: 921600 */
    uint64_t delay_us, jitter_us;              /* one way; 0: 500, 0 */
    int32_t drop, duplicate, reorder, corrupt; /* of a million datagrams; a reordered one is 1 to 8
                                                  delays late */
    int32_t noise; /* of a million bytes on serial lines: flipped, lost or made up */
    /* Called after anything happened at a peer: the application's turn. */
    void (*step)(void *user, dls_sim *sim, int32_t i);
    void *user;
} dls_sim_desc;

/* NULL on failure: out of memory, or a peer could not be made. */
DLS_API dls_sim *dls_sim_create(const dls_sim_desc *desc);
DLS_API void dls_sim_destroy(dls_sim *sim);
/* Runs until virtual time `until`. */
DLS_API void dls_sim_run(dls_sim *sim, uint64_t until);
DLS_API uint64_t dls_sim_now(const dls_sim *sim);
/* The engine of peer i, NULL while it is down; and the time as it sees it. */
DLS_API dls_peer *dls_sim_peer(dls_sim *sim, int32_t i);
DLS_API uint64_t dls_sim_clock(const dls_sim *sim, int32_t i);
/* Boots of peer i so far; its engine's boot count is this on top of the desc's. */
DLS_API int32_t dls_sim_boots(const dls_sim *sim, int32_t i);

/* The rates of a desc, changed: for all links, from now on. */
DLS_API void dls_sim_rates(dls_sim *sim, int32_t drop, int32_t duplicate, int32_t reorder,
                           int32_t corrupt, int32_t noise);
/* What a sends to b is lost from now on, or no more. One way. */
DLS_API void dls_sim_cut(dls_sim *sim, int32_t a, int32_t b, bool cut);
/* Power off: memory is gone, what the engine stored stays. Power on: false without memory. */
DLS_API void dls_sim_crash(dls_sim *sim, int32_t i);
DLS_API bool dls_sim_start(dls_sim *sim, int32_t i);
/* Everything at peer i happens that much later. 0: as fast as it can. */
DLS_API void dls_sim_slow(dls_sim *sim, int32_t i, uint64_t us);
/* Its clock jumps. */
DLS_API void dls_sim_jump(dls_sim *sim, int32_t i, int64_t us);
/* Mixes a number of the application into the trace. */
DLS_API void dls_sim_note(dls_sim *sim, uint64_t number);
DLS_API uint64_t dls_sim_trace(const dls_sim *sim);
/* Datagrams and serial bytes that were carried. */
DLS_API uint64_t dls_sim_carried(const dls_sim *sim);
#endif

/* ---- Discovery, without I/O ----
   Each device tells its network from time to time where it takes packets, see ANNOUNCE in >>wire;
   whoever hears that and has no session with it yet calls it. So it is enough when one of two hears
   the other. Nobody answers an announcement: a stranger learns that a group is here, not more.
   A SMALL device only announces: it has no key by which to tell whether another is genuine.
   Addresses are IP ones (dls_addr_read) or opaque; of IP ones the port is taken from the packet. */
typedef struct dls_find dls_find;
typedef struct dls_find_desc {
    dls_peer *peer;    /* with keys */
    int32_t port;      /* of the engine, PACKET: over it those heard are called */
    uint32_t udp_port; /* where I take packets, told to others */
} dls_find_desc;
DLS_API size_t dls_find_size(const dls_find_desc *desc);
/* Errors: DLS_E_ARG, DLS_E_MEMORY, DLS_E_REFUSED (no keys), DLS_E_IO (no random numbers). */
DLS_API dls_status dls_find_init(dls_find **find, const dls_find_desc *desc, void *mem,
                                 size_t bytes);
/* The announcement that is due, DLS_ANNOUNCE_BYTES into to; 0: not yet. Soon after the start, then
   rarer, every 5 s in the end. */
DLS_API size_t dls_find_write(dls_find *find, void *to, uint64_t now);
DLS_API uint64_t dls_find_deadline(const dls_find *find);
/* A packet came to where announcements are awaited; from: its sender. Calls who is not up yet.
   What it returns is for tests: DLS_E_FORMAT, DLS_E_VERSION, DLS_E_MISMATCH (another group),
   DLS_E_NOT_FOUND (not in my roster), DLS_E_REFUSED (revoked), DLS_E_AUTH (another key),
   DLS_E_STATE (not newer than what was heard before, or two devices with one id),
   DLS_E_UNSUPPORTED (I am SMALL). */
DLS_API dls_status dls_find_read(dls_find *find, const dls_addr *from, const void *bytes, size_t n,
                                 uint64_t now);
/* Something to tell about a device, each once a minute at most; false: nothing more. *what as of
   dls_find_read; dls_find_explain has the words. */
DLS_API bool dls_find_next(dls_find *find, uint32_t *id, dls_status *what, uint64_t now);
/* Why a device is not up, in words: never heard, another group, another key, not in my roster,
   revoked, another version, heard but does not answer, two devices with its id. Returns buf, NUL
   terminated and cut to fit. */
DLS_API char *dls_find_explain(const dls_find *find, uint32_t id, char *buf, size_t bytes,
                               uint64_t now);

#if DLS_ENABLE_SOCKETS
/* ---- Addresses ----
   In a dls_addr: IPv4 as 4 bytes and port, IPv6 as 16 bytes, port and, of link-local ones, the
   interface's number in one byte; big-endian, as in packets. */

/* "192.168.1.5:7000", "localhost:7000", "[fe80::1%eth0]:7000": numbers, not names. Errors:
   DLS_E_ARG. Any thread. */
DLS_API dls_status dls_addr_read(dls_addr *addr, const char *text);
/* The same in text. Returns buf, NUL terminated and cut to fit. Any thread. */
DLS_API char *dls_addr_text(const dls_addr *addr, char *buf, size_t bytes);

/* ---- Links ----
   A link moves bytes between an engine's ports and whatever the OS has: one socket, many, a tty. A
   set of links is polled by one thread. A driver of your own is a struct that begins with a
   dls_link; examples/05_user_link.c is one. */

#define DLS_FD_READ 1u
#define DLS_FD_WRITE 2u
typedef struct dls_fd {
    int fd;
    uint8_t want, got; /* DLS_FD_x; got READ also means end of file or an error */
} dls_fd;

typedef struct dls_link {
    /* Before waiting: what to wait for, up to fds_max entries; returns how many. May lower *until,
       when serve must be called though nothing came. */
    int32_t (*wait)(struct dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until);
    /* After waiting, always: fd as wait left it, with got filled in. Reads what there is, feeds the
       engine, writes what it has. Must not block. */
    void (*serve)(struct dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now);
    void (*close)(struct dls_link *link, uint64_t now);
    int32_t fds_max;
    /* the set's */
    struct dls_link *next;
    int32_t at, fds;
} dls_link;

typedef struct dls_links dls_links;
typedef struct dls_links_desc {
    dls_peer *peer;
    int32_t fds_max; /* of all links together; 0: 64 */
} dls_links_desc;
/* 0 when the desc is out of range. Pure. */
DLS_API size_t dls_links_size(const dls_links_desc *desc);
/* Errors: DLS_E_ARG, DLS_E_MEMORY, DLS_E_IO (no pipe to wake it by). */
DLS_API dls_status dls_links_init(dls_links **links, const dls_links_desc *desc, void *mem,
                                  size_t bytes, dls_error *error);
/* From now on the link is polled. Errors: DLS_E_LIMIT (fds_max). Owner: before polling, or under
   the lock given to it. */
DLS_API dls_status dls_links_add(dls_links *links, dls_link *link);
/* No longer; it stays open. */
DLS_API void dls_links_remove(dls_links *links, dls_link *link);
/* Waits up to timeout_us for bytes, room or a wake-up, moves bytes, and ticks the engine. lock,
   unlock (may be NULL) are called around use of the engine and the links, not around waiting. */
DLS_API void dls_links_poll(dls_links *links, uint64_t timeout_us, void (*lock)(void *),
                            void (*unlock)(void *), void *user);
/* Ends a wait. Any thread. */
DLS_API void dls_links_wake(dls_links *links);
/* Closes all links in it, and itself. NULL: nothing. */
DLS_API void dls_links_close(dls_links *links);

/* ---- TCP ----
   Either among ranks at fixed addresses (peers): listens on its own, calls those of lower ranks,
   again until they answer. Or listens where `listen` says and calls whom dls_tcp_connect names. An
   engine without keys gets loopback addresses only, unless allow_plaintext says that whoever
   reaches the port may join and read everything. */
typedef struct dls_tcp dls_tcp;
typedef struct dls_tcp_desc {
    dls_peer *peer;
    int32_t rank, size;   /* with peers */
    const char *peers;    /* "192.168.1.5:7000,192.168.1.6:7000,...", one per rank; or NULL */
    const char *listen;   /* without peers: "0.0.0.0:7000", port 0: any; NULL: only calls */
    int32_t record_bytes; /* longest packet; 0: 65535, from 33 peers on 16384 */
    bool allow_plaintext;
} dls_tcp_desc;
DLS_API size_t dls_tcp_size(const dls_tcp_desc *desc);
/* Errors: DLS_E_ARG (addresses), DLS_E_REFUSED (one is not loopback, and there are no keys),
   DLS_E_IO (cannot listen); *error says which and why. */
DLS_API dls_status dls_tcp_init(dls_tcp **tcp, const dls_tcp_desc *desc, void *mem, size_t bytes,
                                dls_error *error);
/* Where devices are to be called: "3@192.168.1.7:7000,4@..." by id. Errors: DLS_E_ARG,
   DLS_E_NOT_FOUND (no such id), DLS_E_REFUSED; those before the bad one are called. */
DLS_API dls_status dls_tcp_connect(dls_tcp *tcp, const char *list, dls_error *error);
DLS_API int32_t dls_tcp_port(const dls_tcp *tcp); /* it listens on; 0: none */
/* For dls_links_add. dls_links_close closes it; else dls_tcp_close. */
DLS_API dls_link *dls_tcp_link(dls_tcp *tcp);
/* The three of dls_links, for a program whose only link this is. */
DLS_API void dls_tcp_poll(dls_tcp *tcp, uint64_t timeout_us, void (*lock)(void *),
                          void (*unlock)(void *), void *user);
DLS_API void dls_tcp_wake(dls_tcp *tcp);
DLS_API void dls_tcp_close(dls_tcp *tcp);
/* A loopback port that was free a moment ago; 0 on failure. For demonstrations and tests. */
DLS_API int32_t dls_tcp_free_port(void);

/* ---- UDP ----
   One socket for all peers, a PACKET port. Without keys it may stand on a loopback address only,
   and talk with such, unless allow_plaintext. */
typedef struct dls_udp dls_udp;
typedef struct dls_udp_desc {
    dls_peer *peer;
    const char *bind; /* "0.0.0.0:7000", port 0: any; NULL: every address, IPv6 too where there is,
                         any port; without keys 127.0.0.1 */
    int32_t udp_port; /* without bind: this port */
    int32_t mtu;      /* longest packet; 0: 1232, which every IPv6 path carries */
    bool allow_plaintext;
} dls_udp_desc;
DLS_API size_t dls_udp_size(const dls_udp_desc *desc);
/* Errors: DLS_E_ARG (address), DLS_E_REFUSED (not loopback, and there are no keys), DLS_E_IO
   (socket), DLS_E_LIMIT (the engine's ports); *error says which and why. */
DLS_API dls_status dls_udp_init(dls_udp **udp, const dls_udp_desc *desc, void *mem, size_t bytes,
                                dls_error *error);
/* As dls_tcp_connect. The fallback where discovery does not reach. */
DLS_API dls_status dls_udp_connect(dls_udp *udp, const char *list, dls_error *error);
DLS_API int32_t dls_udp_port(const dls_udp *udp); /* of the socket */
DLS_API dls_link *dls_udp_link(dls_udp *udp);
DLS_API void dls_udp_close(dls_udp *udp);

/* Discovery over UDP: multicast and broadcast on every interface that is up, looked up anew for
   each announcement; one of them is enough. */
typedef struct dls_lan dls_lan;
typedef struct dls_lan_desc {
    dls_udp *udp;      /* by which those found are called */
    int32_t port;      /* where all devices of a network announce; 0: 7399 */
    const char *group; /* multicast group; NULL: "239.255.68.76" */
    bool no_multicast, no_broadcast;
} dls_lan_desc;
DLS_API size_t dls_lan_size(const dls_lan_desc *desc);
/* Errors: as dls_find_init, DLS_E_ARG (group), DLS_E_IO (socket). */
DLS_API dls_status dls_lan_init(dls_lan **lan, const dls_lan_desc *desc, void *mem, size_t bytes,
                                dls_error *error);
DLS_API dls_find *dls_lan_find(dls_lan *lan); /* for dls_find_next and dls_find_explain */
DLS_API dls_link *dls_lan_link(dls_lan *lan);
DLS_API void dls_lan_close(dls_lan *lan);

/* ---- Serial ----
   A tty, raw, or any byte stream that may lose some: a SERIAL port with one neighbour. A tty that
   goes away is opened again when it is back. */
typedef struct dls_serial dls_serial;
typedef struct dls_serial_desc {
    dls_peer *peer;
    const char *path; /* "/dev/ttyUSB0", a pty, or "tcp:127.0.0.1:5555": QEMU's serial line */
    int32_t baud;     /* 0: as it is set */
    int fd;           /* without path: a tty, pty or socket that is open; it becomes this link's */
    int32_t mtu;      /* longest packet; 0: 384. The neighbour's must be as long */
    bool call;        /* open a session with device `id`; else wait to be called */
    uint32_t id;
    bool allow_plaintext; /* the wire may be trusted: needed when there are no keys */
} dls_serial_desc;
DLS_API size_t dls_serial_size(const dls_serial_desc *desc);
/* Errors: DLS_E_ARG (baud rate), DLS_E_NOT_FOUND (no such tty or id), DLS_E_REFUSED (no keys),
   DLS_E_IO, DLS_E_LIMIT (the engine's ports); *error says which and why. */
DLS_API dls_status dls_serial_init(dls_serial **serial, const dls_serial_desc *desc, void *mem,
                                   size_t bytes, dls_error *error);
DLS_API dls_link *dls_serial_link(dls_serial *serial);
DLS_API void dls_serial_close(dls_serial *serial);
#endif

#if DLS_ENABLE_SOCKETS && DLS_ENABLE_FILES && DLS_ENABLE_HEAP && DLS_ENABLE_SIGN
/* ---- Key files ----
   Three kinds of files make a group. The root key, kept offline, enrols and revokes; the roster,
   signed by it, says who belongs and is public; each device has a key of its own. Keys are text,
   one field a line, with a checksum, and are refused when others than their owner may read them.
   Beside a device's key stands KEY.state: how often it was started, and what a coordinator has
   promised. All are replaced as a whole, never half written. `dlshard keygen`, `enrol`, `revoke`
   and `roster` are these functions. */

typedef struct dls_root {
    uint32_t group;
    unsigned char seed[32], psk[32]; /* signs rosters; shared by the group */
} dls_root;
/* A new group. Errors: DLS_E_IO (no random numbers). */
DLS_API dls_status dls_root_make(dls_root *root, dls_error *error);
/* Errors of loading, all with *error in words: DLS_E_NOT_FOUND, DLS_E_REFUSED (others may read it),
   DLS_E_FORMAT (another kind of file, cut short, a field missing or wrong), DLS_E_VERSION,
   DLS_E_CHECKSUM. Of saving: DLS_E_STATE (it exists, and force is false), DLS_E_IO, DLS_E_FULL. */
DLS_API dls_status dls_root_load(dls_root *root, const char *path, dls_error *error);
DLS_API dls_status dls_root_save(const dls_root *root, const char *path, bool force,
                                 dls_error *error);

typedef struct dls_keys { /* of one device */
    uint32_t group, id;
    bool small;
    char name[16];
    unsigned char secret[32], psk[32], root[32]; /* secret: zero when small; psk: then its own */
} dls_keys;
/* Errors: as of dls_root_load and dls_root_save. */
DLS_API dls_status dls_keys_load(dls_keys *keys, const char *path, dls_error *error);
/* The same. */
DLS_API dls_status dls_keys_save(const dls_keys *keys, const char *path, bool force,
                                 dls_error *error);

/* A roster in memory of its own: bytes as signed, and the list. */
typedef struct dls_roster_file {
    dls_roster roster;
    void *bytes;
    size_t count;
    dls_device *device; /* DLS_ROSTER_DEVICES of them: room to enrol */
} dls_roster_file;
/* root32: its signature is checked; NULL: not. Errors as of the keys, and DLS_E_AUTH (not signed by
   that root). */
DLS_API dls_status dls_roster_load(dls_roster_file *file, const char *path,
                                   const unsigned char *root32, dls_error *error);
/* Gives its memory back. */
DLS_API void dls_roster_free(dls_roster_file *file);
/* Adds a device under the next free id and makes its keys; a zeroed file is one without devices.
   role: DLS_ROLE_x. The epoch rises; nothing is saved yet. Errors: DLS_E_ARG (name: 1 to 15
   printable characters; role), DLS_E_STATE (the name is taken), DLS_E_LIMIT (1024 devices),
   DLS_E_MISMATCH (another group), DLS_E_MEMORY, DLS_E_IO. */
DLS_API dls_status dls_roster_enrol(dls_roster_file *file, const dls_root *root, const char *name,
                                    uint32_t role, bool small, dls_keys *keys, dls_error *error);
/* Errors: DLS_E_NOT_FOUND, DLS_E_STATE (revoked already). */
DLS_API dls_status dls_roster_revoke(dls_roster_file *file, const dls_root *root, const char *name,
                                     dls_error *error);
DLS_API dls_status dls_roster_save(const dls_roster_file *file, const char *path, bool force,
                                   dls_error *error);

/* All that a device needs to join, from its two files. Counts a start: boot is greater each time.
   Paths must stay. */
typedef struct dls_identity {
    dls_keys keys;
    dls_roster_file roster;
    const char *key_path, *roster_path;
    uint32_t boot;
    void *stored; /* of a coordinator, NULL: nothing */
    size_t stored_bytes;
    void *space; /* for rosters that come from peers */
    dls_roster_file newer;
} dls_identity;
/* Errors: as of the two files, DLS_E_NOT_FOUND (not in the roster), DLS_E_MISMATCH (the roster is
   of another group, or has another key for it), DLS_E_REFUSED (revoked), DLS_E_IO (the start could
   not be counted). Whatever it returns, dls_identity_free. */
DLS_API dls_status dls_identity_load(dls_identity *me, const char *key_path,
                                     const char *roster_path, dls_error *error);
/* Fills in what dls_peer_init needs to know: roster, id, keys, boot, name, store. */
DLS_API void dls_identity_desc(dls_identity *me, dls_peer_desc *desc);
/* Gives the engine the signed roster, to pass on, and room for newer ones. After dls_peer_init. */
DLS_API dls_status dls_identity_bind(dls_identity *me, dls_peer *peer, uint64_t now);
/* Now and then, under the engine's lock: a newer roster in the file is installed, a newer one that
   came from a peer is written to the file. DLS_OK: nothing or done; errors as of loading and of
   dls_peer_roster (DLS_E_REFUSED: I am revoked). */
DLS_API dls_status dls_identity_refresh(dls_identity *me, dls_peer *peer, uint64_t now,
                                        dls_error *error);
/* Wipes keys and gives memory back. After the engine is closed. */
DLS_API void dls_identity_free(dls_identity *me);

/* ---- Host: a device with an OS, its engine and its links in one ----
   What a program needs that joins by key: identity, engine, UDP with discovery, TCP, serial lines.
   examples/peer.c is one. */
#define DLS_HOST_SERIALS 8
typedef struct dls_host_desc {
    const char *key, *roster; /* paths of the two files, must stay */
    int32_t listen;           /* UDP and TCP port; 0: any for UDP, none for TCP */
    const char *connect;      /* where discovery does not reach: "3@192.168.1.7:7000,..." */
    const char *tcp;          /* the same, by TCP */
    const char *serial;       /* "/dev/ttyUSB0:115200,tcp:127.0.0.1:5555": PATH[:BAUD][=ID], the ID
                                 of a device to call; without it the neighbour calls */
    bool gateway, no_lan;
    int32_t lan_port;    /* 0: 7399 */
    uint64_t timeout_us; /* silence after which a peer is lost; 0: 2 s */
} dls_host_desc;
typedef struct dls_host {
    dls_peer *peer;
    dls_links *links; /* links of your own may be added */
    dls_find *find;   /* NULL with no_lan */
    dls_identity identity;
    /* private */
    dls_udp *udp;
    dls_tcp *tcp;
    void *mem[5 + 2 * DLS_HOST_SERIALS];
    int32_t mems;
    uint64_t refreshed;
} dls_host;
/* Errors: those of the parts, *error in words. Whatever it returns, dls_host_close. */
DLS_API dls_status dls_host_open(dls_host *host, const dls_host_desc *desc, dls_error *error);
/* dls_links_poll, and once a second dls_identity_refresh, of which it returns the status:
   DLS_E_REFUSED when this device was revoked. *error may be NULL. */
DLS_API dls_status dls_host_poll(dls_host *host, uint64_t timeout_us, void (*lock)(void *),
                                 void (*unlock)(void *), void *user, dls_error *error);
/* The next event of the engine, or note of discovery (type 0), with a line of words; false: none. */
DLS_API bool dls_host_next(dls_host *host, dls_peer_event *event, char *text, size_t bytes);
/* Says goodbye to all, waits for that up to 300 ms, closes links and engine, wipes keys. */
DLS_API void dls_host_close(dls_host *host);
#endif

/* ------------------------------------------------------------------------------------------------
   >>node.api   the facade    deps: config base port tensor par net train wire peer coll job link
    */
#if DLS_ENABLE_SOCKETS && DLS_ENABLE_HEAP && DLS_ENABLE_TRAIN

typedef struct dls_node dls_node;

typedef struct dls_node_desc {
    int32_t rank;          /* which of the addresses is mine */
    const char *peers;     /* "127.0.0.1:7000,127.0.0.1:7001": one per rank; NULL: I am alone */
    const char *name;      /* up to 19 bytes; NULL: "peer" */
    const int32_t *shares; /* work of each rank, relative; NULL: equal. Alike on all peers */
    int32_t threads;       /* for computing; 0: all processors */
    int32_t join_ms;       /* how long to wait for the others; 0: 10000 */
    int32_t timeout_ms;    /* silence after which a peer is lost; 0: 10000 */
} dls_node_desc;

/* Joins the others; returns when all are there. On failure *node is still made, for
   dls_node_explain, and must be destroyed; NULL only without memory. Errors: DLS_E_TIMEOUT,
   DLS_E_REFUSED, DLS_E_ARG, ... */
DLS_API dls_status dls_node_create(dls_node **node, const dls_node_desc *desc);
DLS_API void dls_node_destroy(dls_node *node);
/* The last error in words: what was wrong, where, what to do. Valid until the next call. */
DLS_API const char *dls_node_explain(dls_node *node);
DLS_API int32_t dls_node_rank(const dls_node *node);
DLS_API int32_t dls_node_count(const dls_node *node);
DLS_API const char *dls_node_name(dls_node *node, int32_t rank);

/* What each peer did, by rank. */
typedef struct dls_node_share {
    int64_t samples;
    double seconds; /* spent computing */
} dls_node_share;

/* dls_fit by all peers together: every one makes this call with the same network, data and desc.
   Each step's shards (desc.train.shards, 0: 8) are spread by shares; afterwards all have the same
   weights, bit for bit those of one device with as many shards. share (may be NULL): node_count
   entries. Rank 0 writes checkpoints and reports progress; when its callback asks to stop, all
   peers stop after the next step with DLS_E_STOPPED. Errors also: DLS_E_MISMATCH (calls differ),
   DLS_E_PEER. */
DLS_API dls_status dls_node_fit(dls_node *node, dls_net *net, const dls_data *data,
                                const dls_fit_desc *desc, dls_fit_report *report,
                                dls_node_share *share);

typedef struct dls_node_infer_report {
    int32_t samples, first_node, last_node; /* my stage */
    double seconds;
} dls_node_infer_report;
/* Runs a data set through the network cut in as many stages as there are peers, batch by batch, all
   stages at work at once. Rank 0 feeds; outputs (count x outputs of the network) arrive on rank 0,
   may be NULL elsewhere. batch 0: 64. Every peer makes this call. Errors: as dls_node_fit. */
DLS_API dls_status dls_node_infer(dls_node *node, dls_net *net, const dls_data *data, int32_t batch,
                                  dls_real *outputs, dls_node_infer_report *report);
#endif
#endif /* DLS_ENABLE_PEERS */
#endif /* API */

/* ================================================================================================
   IMPLEMENTATION, first half: base to the kernels' frame. (>>kern.pass follows, then the rest.)
   */

#if defined(DLSHARD_IMPLEMENTATION) && !defined(DLSHARD_IMPLEMENTED)
#define DLSHARD_IMPLEMENTED
#define DLSI_BUILDING

/* ------------------------------------------------------------------------------------------------
   >>config.impl   compilers and machines  deps: config.api */

/* No multiply-add contraction anywhere: fused operations are written where they are meant. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#pragma GCC diagnostic push /* g++ 12 finds the intrinsics' own undefined operands suspicious */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <string.h>
#if DLS_ENABLE_HEAP && (!defined(DLS_MALLOC) || !defined(DLS_FREE))
#include <stdlib.h>
#define DLS_MALLOC(bytes) malloc(bytes)
#define DLS_FREE(ptr) free(ptr)
#endif
#ifndef DLS_ASSERT /* our own bugs only, never bad input */
#include <assert.h>
#define DLS_ASSERT(condition) assert(condition)
#endif
#if DLS_ENABLE_MESSAGES
#define DLSI_MSG(text) text
#else
#define DLSI_MSG(text) ""
#endif
#ifndef DLSHARD_SELF /* how the header includes itself; for those who rename the file */
#define DLSHARD_SELF "dlshard.h"
#endif

#if defined(__OPTIMIZE_SIZE__) && !DLS_ENABLE_SIMD /* -Os on small devices: bytes before speed */
#define DLSI_SMALL 1
#else
#define DLSI_SMALL 0
#endif
#if DLSI_SMALL
#define DLSI_INLINE static inline DLSI_UNUSED
#elif defined(__GNUC__)
#define DLSI_INLINE static inline __attribute__((always_inline))
#else
#define DLSI_INLINE static inline
#endif
#if defined(__GNUC__)
#define DLSI_RESTRICT __restrict__
#define DLSI_LIKELY(x) __builtin_expect(!!(x), 1)
#if DLSI_SMALL
#define DLSI_UNROLL
#elif defined(__clang__)
#define DLSI_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DLSI_UNROLL _Pragma("GCC unroll 16")
#endif
#else
#define DLSI_RESTRICT
#define DLSI_LIKELY(x) (x)
#define DLSI_UNROLL
#endif
#if defined(__GNUC__) && !DLSI_SMALL
#define DLSI_PREFETCH(p) __builtin_prefetch(p) /* where the processor's own guess comes too late */
#else
#define DLSI_PREFETCH(p) ((void)0)
#endif
#define DLSI_FN static DLSI_UNUSED
#define DLSI_ZERO(object) memset(&(object), 0, sizeof(object))

#if DLS_ENABLE_SIMD && !DLS_REAL64 && defined(__GNUC__) && defined(__x86_64__)
#define DLSI_X86 1
#else
#define DLSI_X86 0
#endif
#if DLS_ENABLE_SIMD && !DLS_REAL64 && defined(__GNUC__) && defined(__aarch64__) &&                 \
    !defined(__AARCH64EB__)
#define DLSI_NEON 1
#else
#define DLSI_NEON 0
#endif
#if DLSI_X86
#include <cpuid.h>
#include <immintrin.h>
#endif
#if DLSI_NEON
#include <arm_neon.h>
#endif

/* ------------------------------------------------------------------------------------------------
   >>base.impl  deps: config base.api */

DLSI_INLINE size_t dlsi_min_size(size_t a, size_t b) { return a < b ? a : b; }
DLSI_INLINE uint64_t dlsi_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
DLSI_INLINE size_t dlsi_max_size(size_t a, size_t b) { return a > b ? a : b; }
DLSI_INLINE int32_t dlsi_min_i32(int32_t a, int32_t b) { return a < b ? a : b; }
DLSI_INLINE int32_t dlsi_max_i32(int32_t a, int32_t b) { return a > b ? a : b; }
DLSI_INLINE int32_t dlsi_ceil_div(int32_t a, int32_t b) { return (a + b - 1) / b; }
/* The next multiple; of what is too much, one so large that a layout refuses it. */
DLSI_INLINE size_t dlsi_round_up(size_t x, size_t to) {
    return x > SIZE_MAX - to ? SIZE_MAX / to * to : (x + to - 1) / to * to;
}

DLSI_FN int32_t dlsi_or(int32_t value, int32_t otherwise) { return value != 0 ? value : otherwise; }

/* a * b, or SIZE_MAX when that is too much: sticky through further calls. */
DLSI_FN size_t dlsi_mul(size_t a, size_t b) {
    if (a != 0 && b > SIZE_MAX / a) return SIZE_MAX;
    return a * b;
}
DLSI_FN size_t dlsi_add(size_t a, size_t b) { return b > SIZE_MAX - a ? SIZE_MAX : a + b; }

DLSI_FN uint32_t dlsi_load16(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
DLSI_FN uint32_t dlsi_load32(const unsigned char *p) {
    return dlsi_load16(p) | dlsi_load16(p + 2) << 16;
}
DLSI_FN uint64_t dlsi_load64(const unsigned char *p) {
    return (uint64_t)dlsi_load32(p) | (uint64_t)dlsi_load32(p + 4) << 32;
}
DLSI_FN void dlsi_store16(unsigned char *p, uint32_t v) {
    p[0] = (unsigned char)(v & 255u);
    p[1] = (unsigned char)(v >> 8 & 255u);
}
DLSI_FN void dlsi_store32(unsigned char *p, uint32_t v) {
    dlsi_store16(p, v);
    dlsi_store16(p + 2, v >> 16);
}
DLSI_FN void dlsi_store64(unsigned char *p, uint64_t v) {
    dlsi_store32(p, (uint32_t)(v & 0xFFFFFFFFu));
    dlsi_store32(p + 4, (uint32_t)(v >> 32));
}
DLSI_FN bool dlsi_little_endian(void) {
    const uint32_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return first == 1;
}
DLSI_FN uint32_t dlsi_float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
DLSI_FN float dlsi_bits_float(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
/* Exponent bits all ones: NaN or infinity. */
DLSI_FN bool dlsi_finite(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return (u >> 52 & 0x7FFu) != 0x7FFu;
}

/* ---- Layout: one routine both measures (base NULL) and places ---- */

typedef struct dlsi_layout {
    unsigned char *base;
    size_t used; /* SIZE_MAX: overflow */
} dlsi_layout;

/* Where the first object goes: bytes to skip so that mem is aligned. Sizes include DLS_ALIGN - 1 of
   slack, so any mem will do. */
DLSI_FN dlsi_layout dlsi_layout_at(void *mem) {
    dlsi_layout l;
    uintptr_t address = (uintptr_t)mem;
    l.base = (unsigned char *)mem;
    l.used = 0;
    if (mem != NULL) l.base += (DLS_ALIGN - address % DLS_ALIGN) % DLS_ALIGN;
    return l;
}
DLSI_FN void *dlsi_layout_take(dlsi_layout *l, size_t bytes) {
    size_t at = l->used;
    if (bytes > SIZE_MAX - DLS_ALIGN || at == SIZE_MAX) {
        l->used = SIZE_MAX;
        return NULL;
    }
    l->used = dlsi_add(at, dlsi_round_up(bytes, DLS_ALIGN));
    return l->base != NULL ? l->base + at : NULL;
}
DLSI_FN size_t dlsi_layout_total(const dlsi_layout *l) { return dlsi_add(l->used, DLS_ALIGN - 1); }

#if DLS_ENABLE_HEAP
/* Memory for an object whose size function said bytes, aligned; what every dls_x_create uses. The
   block's own address stands just before it. NULL when bytes is 0 (an error before) or too much. */
DLSI_FN void *dlsi_heap_take(size_t bytes) {
    const size_t more = 2 * DLS_ALIGN;
    unsigned char *block, *mem;
    if (bytes == 0 || bytes > SIZE_MAX / 2 - more) return NULL;
    block = (unsigned char *)DLS_MALLOC(bytes + more);
    if (block == NULL) return NULL;
    mem = block + DLS_ALIGN + (DLS_ALIGN - (uintptr_t)block % DLS_ALIGN) % DLS_ALIGN;
    memcpy(mem - sizeof block, &block, sizeof block);
    return mem;
}
/* count reals, to be freed with DLS_FREE. */
DLSI_FN dls_real *dlsi_heap_reals(size_t count) {
    if (count > SIZE_MAX / 4 / sizeof(dls_real)) return NULL;
    return (dls_real *)DLS_MALLOC((count + 1) * sizeof(dls_real));
}
/* mem, or the object dls_x_init placed first in it: being aligned, it begins where mem does. */
DLSI_FN void dlsi_heap_give(void *mem) {
    unsigned char *block;
    if (mem == NULL) return;
    memcpy(&block, (unsigned char *)mem - sizeof block, sizeof block);
    DLS_FREE(block);
}
#endif

/* ---- Errors ---- */

DLS_API const char *dls_status_text(dls_status status) {
    static const char *const text[DLS_STATUS_COUNT] = {
        DLSI_MSG("DLS_OK: no error"),
        DLSI_MSG("DLS_E_ARG: an argument is out of range"),
        DLSI_MSG("DLS_E_SHAPE: shapes do not fit together"),
        DLSI_MSG("DLS_E_MEMORY: not enough memory"),
        DLSI_MSG("DLS_E_LIMIT: a limit is reached"),
        DLSI_MSG("DLS_E_FORMAT: not in the expected format"),
        DLSI_MSG("DLS_E_CHECKSUM: damaged, a checksum is wrong"),
        DLSI_MSG("DLS_E_VERSION: of an incompatible version"),
        DLSI_MSG("DLS_E_ABI: files of this program were compiled with unlike dlshard.h or toggles"),
        DLSI_MSG("DLS_E_IO: reading or writing failed"),
        DLSI_MSG("DLS_E_FULL: no space left"),
        DLSI_MSG("DLS_E_NOT_FOUND: not found"),
        DLSI_MSG("DLS_E_STATE: not possible in this state"),
        DLSI_MSG("DLS_E_PEER: a peer was lost"),
        DLSI_MSG("DLS_E_TIMEOUT: no answer in time"),
        DLSI_MSG("DLS_E_REFUSED: refused by policy"),
        DLSI_MSG("DLS_E_UNSUPPORTED: not supported here"),
        DLSI_MSG("DLS_E_NUMBER: NaN or infinity"),
        DLSI_MSG("DLS_E_STOPPED: stopped by the caller"),
        DLSI_MSG("DLS_E_MISMATCH: peers disagree"),
        DLSI_MSG("DLS_E_AUTH: not authentic: forged, or made with another key")};
    if ((unsigned)status >= DLS_STATUS_COUNT) return DLSI_MSG("unknown status");
    return text[status];
}

typedef struct dlsi_text {
    char *buf;
    size_t used, size;
} dlsi_text;

DLSI_FN void dlsi_text_str(dlsi_text *t, const char *s) {
    while (*s != '\0' && t->used + 1 < t->size) t->buf[t->used++] = *s++;
}
DLSI_FN void dlsi_text_int(dlsi_text *t, int64_t v) {
    char digits[24];
    int i = (int)sizeof digits - 1;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    digits[i] = '\0';
    do {
        digits[--i] = (char)('0' + (int)(u % 10));
        u /= 10;
    } while (u != 0);
    if (v < 0) digits[--i] = '-';
    dlsi_text_str(t, digits + i);
}

/* A number rounded to 0..6 places; what an int64_t cannot hold, and NaN, as "-". */
DLSI_FN void dlsi_text_fixed(dlsi_text *t, double v, int places) {
    static const int32_t power[7] = {1, 10, 100, 1000, 10000, 100000, 1000000};
    const double size = v < 0 ? -v : v;
    const bool fits = size < 1e12;
    const int64_t u = fits ? (int64_t)(size * power[places] + 0.5) : 0;
    int64_t rest = u % power[places];
    if (!fits) {
        dlsi_text_str(t, "-");
        return;
    }
    dlsi_text_str(t, v < 0 && u != 0 ? "-" : "");
    dlsi_text_int(t, u / power[places]);
    dlsi_text_str(t, places > 0 ? "." : "");
    for (; places > 0; places--) {
        dlsi_text_int(t, rest / power[places - 1]);
        rest %= power[places - 1];
    }
}

DLS_API char *dls_error_text(const dls_error *error, char *buf, size_t bytes) {
    dlsi_text t;
    const char *s = error->what != NULL ? error->what : "";
    t.buf = buf;
    t.used = 0;
    t.size = bytes;
    dlsi_text_str(&t, dls_status_text(error->status));
    if (error->node >= 0 && error->status != DLS_OK) {
        dlsi_text_str(&t, ", node ");
        dlsi_text_int(&t, error->node);
        dlsi_text_str(&t, error->name != NULL ? " (" : "");
        dlsi_text_str(&t, error->name != NULL ? error->name : "");
        dlsi_text_str(&t, error->name != NULL ? ")" : "");
    }
    if (error->node < 0 && error->name != NULL && strstr(s, "{s}") == NULL) {
        dlsi_text_str(&t, ", '");
        dlsi_text_str(&t, error->name);
        dlsi_text_str(&t, "'");
    }
    if (*s != '\0') dlsi_text_str(&t, ". ");
    while (*s != '\0') {
        char one[2];
        if (s[0] == '{' && s[1] >= '0' && s[1] <= '2' && s[2] == '}') {
            dlsi_text_int(&t, error->arg[s[1] - '0']);
            s += 3;
        } else if (s[0] == '{' && s[1] == 's' && s[2] == '}') {
            dlsi_text_str(&t, error->name != NULL ? error->name : "?");
            s += 3;
        } else {
            one[0] = *s++;
            one[1] = '\0';
            dlsi_text_str(&t, one);
        }
    }
    if (bytes > 0) buf[t.used] = '\0';
    return buf;
}

/* Keeps the first error of an object. Returns status, for `return dlsi_fail(...)`. */
DLSI_FN dls_status dlsi_fail(dls_error *error, dls_status status, const char *what,
                             const char *name, int32_t a, int32_t b, int32_t c) {
    if (error == NULL || error->status != DLS_OK) return status;
    error->status = status;
    error->node = -1;
    error->what = what;
    error->name = name;
    error->arg[0] = a;
    error->arg[1] = b;
    error->arg[2] = c;
    return status;
}
DLSI_FN void dlsi_error_clear(dls_error *error) {
    if (error == NULL) return;
    memset(error, 0, sizeof *error);
    error->node = -1;
}

/* ---- Generator and hashes ---- */

DLSI_INLINE uint32_t dlsi_mix32(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}
/* splitmix64's finaliser (Steele, Lea & Flood 2014). */
DLSI_FN uint64_t dlsi_mix64(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
/* A new seed from a seed and what it is for. */
DLSI_FN uint64_t dlsi_seed(uint64_t seed, uint64_t purpose) {
    return dlsi_mix64(seed * 0x9E3779B97F4A7C15u + dlsi_mix64(purpose + 0x632BE59BD9B4E019u));
}
DLS_API uint32_t dls_rand_at(uint64_t seed, uint32_t index) {
    uint32_t first = (uint32_t)(seed & 0xFFFFFFFFu), second = (uint32_t)(seed >> 32);
    return dlsi_mix32(dlsi_mix32(index ^ first) + second);
}
DLS_API uint32_t dls_rng_u32(dls_rng *rng) {
    uint64_t at = rng->next++;
    uint64_t seed = at >> 32 == 0 ? rng->seed : dlsi_seed(rng->seed, at >> 32);
    return dls_rand_at(seed, (uint32_t)(at & 0xFFFFFFFFu));
}
DLS_API float dls_rng_uniform(dls_rng *rng) {
    return (float)(dls_rng_u32(rng) >> 8) * (1.0f / 16777216.0f);
}

DLS_API uint32_t dls_shuffle_at(uint64_t seed, uint32_t n, uint32_t i) {
    uint32_t half = 1, round, left, right, mask;
    while (half < 16 && ((uint32_t)1 << (2 * half)) < n) half++;
    mask = ((uint32_t)1 << half) - 1;
    do { /* half is the least with 4^half >= n: at most 4 n positions, so few walks */
        left = i >> half;
        right = i & mask;
        for (round = 0; round < 6; round++) {
            uint32_t next = left ^ (dls_rand_at(dlsi_seed(seed, round), right) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

DLS_API uint32_t dls_crc32c(uint32_t crc, const void *bytes, size_t count) {
    /* a nibble at a time: reflected polynomial 0x82F63B78 */
    static const uint32_t table[16] = {0x00000000u, 0x105EC76Fu, 0x20BD8EDEu, 0x30E349B1u,
                                       0x417B1DBCu, 0x5125DAD3u, 0x61C69362u, 0x7198540Du,
                                       0x82F63B78u, 0x92A8FC17u, 0xA24BB5A6u, 0xB21572C9u,
                                       0xC38D26C4u, 0xD3D3E1ABu, 0xE330A81Au, 0xF36E6F75u};
    const unsigned char *p = (const unsigned char *)bytes;
    crc = ~crc;
    while (count-- > 0) {
        crc ^= *p++;
        crc = table[crc & 15u] ^ crc >> 4;
        crc = table[crc & 15u] ^ crc >> 4;
    }
    return ~crc;
}

DLSI_FN uint64_t dlsi_hash_word(uint64_t hash, uint64_t word) {
    return dlsi_mix64((hash ^ word) + 0x9E3779B97F4A7C15u);
}
DLS_API uint64_t dls_hash64(uint64_t hash, const void *bytes, size_t count) {
    const unsigned char *p = (const unsigned char *)bytes;
    unsigned char last[8];
    for (; count >= 8; count -= 8, p += 8) hash = dlsi_hash_word(hash, dlsi_load64(p));
    if (count == 0) return hash;
    memset(last, 0, sizeof last);
    memcpy(last, p, count);
    return dlsi_hash_word(hash ^ count, dlsi_load64(last));
}
DLS_API uint64_t dls_hash64_reals(uint64_t hash, const dls_real *x, size_t count) {
    size_t i;
    for (i = 0; i < count; i++) {
        uint64_t word = 0;
        if (DLS_REAL64)
            memcpy(&word, &x[i], sizeof x[i]);
        else
            word = dlsi_float_bits((float)x[i]);
        hash = dlsi_hash_word(hash, word);
    }
    return hash;
}

/* ---- Elementary functions in double, from + - * / alone: the same bits on every device, no -lm.
   Accurate to about 1e-15 relative; for schedules, tables and initial weights, not for kernels.
   ---- */

DLSI_FN double dlsi_round(double x) { /* to nearest even, |x| < 2^51 */
    const double magic = 6755399441055744.0;
    return (x + magic) - magic;
}
DLSI_FN double dlsi_scale2(double x, int32_t exponent) { /* x 2^exponent, exponent in +-1000 */
    uint64_t bits = (uint64_t)(1023 + exponent) << 52;
    double two;
    memcpy(&two, &bits, sizeof two);
    return x * two;
}
DLSI_FN double dlsi_exp(double x) {
    static const double inverse[15] = {0.0,     1.0,      1.0 / 2,  1.0 / 3,  1.0 / 4,
                                       1.0 / 5, 1.0 / 6,  1.0 / 7,  1.0 / 8,  1.0 / 9,
                                       0.1,     1.0 / 11, 1.0 / 12, 1.0 / 13, 1.0 / 14};
    double k, r, sum = 1.0;
    int i;
    if (x > 690.0) x = 690.0;
    if (x < -690.0) return 0.0;
    k = dlsi_round(x * 1.4426950408889634);
    r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
    for (i = 14; i >= 1; i--) sum = 1.0 + sum * (r * inverse[i]);
    return dlsi_scale2(sum, (int32_t)k);
}
DLSI_FN double dlsi_power(double base, int64_t exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent /= 2, base *= base)
        if (exponent % 2 != 0) result *= base;
    return result;
}
DLSI_FN double dlsi_log(double x) { /* x > 0, normal */
    static const double odd[12] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,  1.0 / 9,  1.0 / 11,
                                   1.0 / 13, 1.0 / 15, 1.0 / 17, 1.0 / 19, 1.0 / 21, 1.0 / 23};
    uint64_t bits;
    int32_t exponent, i;
    double m, s, sum = 0.0;
    memcpy(&bits, &x, sizeof bits);
    exponent = (int32_t)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFu) | (uint64_t)1023 << 52;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent++;
    }
    s = (m - 1.0) / (m + 1.0);
    for (i = 11; i >= 0; i--) sum = sum * (s * s) + odd[i];
    return 2.0 * s * sum + (double)exponent * 0.693147180559945309417;
}
/* sin(x) (quarter 0) or cos(x) (quarter 1), |x| < 1e8. */
DLSI_FN double dlsi_sin_quarter(double x, int32_t quarter) {
    double k = dlsi_round(x * 0.63661977236758134308), r, r2, sum;
    int64_t n = (int64_t)k + quarter;
    bool odd = (n & 1) != 0, negative = (n & 2) != 0;
    int i;
    r = ((x - k * 1.57079632673412561417) - k * 6.07710050630396597660e-11) -
        k * 2.02226624879595063154e-21;
    r2 = r * r;
    if (odd) {
        for (sum = 1.0, i = 18; i >= 2; i -= 2) sum = 1.0 - sum * r2 / (double)(i * (i - 1));
    } else {
        for (sum = 1.0, i = 19; i >= 3; i -= 2) sum = 1.0 - sum * r2 / (double)(i * (i - 1));
        sum *= r;
    }
    return negative ? -sum : sum;
}
DLSI_FN double dlsi_sin(double x) { return dlsi_sin_quarter(x, 0); }
DLSI_FN double dlsi_cos(double x) { return dlsi_sin_quarter(x, 1); }
DLSI_FN double dlsi_sqrt(double x) {
    uint64_t bits;
    double y;
    int i;
    if (!(x > 0.0)) return x == 0.0 ? 0.0 : x - x; /* negative, NaN: NaN-ish, never reached by us */
    memcpy(&bits, &x, sizeof bits);
    bits = (bits >> 1) + ((uint64_t)1023 << 51);
    memcpy(&y, &bits, sizeof y);
    for (i = 0; i < 6; i++) y = 0.5 * (y + x / y);
    return y;
}
/* Correctly rounded, as IEEE hardware does it, so that devices without it agree. */
#if DLSI_X86
DLSI_FN float dlsi_sqrtf(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
#elif DLSI_NEON
DLSI_FN float dlsi_sqrtf(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }
#elif defined(__GNUC__) && defined(__arm__) && defined(__ARM_FP) && (__ARM_FP & 4)
DLSI_FN float dlsi_sqrtf(float x) {
    float y;
    __asm__("vsqrt.f32 %0, %1" : "=t"(y) : "t"(x));
    return y;
}
#else
DLSI_FN float dlsi_sqrtf(float x) { return (float)dlsi_sqrt((double)x); }
#endif
#if DLS_REAL64
DLSI_FN dls_real dlsi_sqrt_real(dls_real x) { return dlsi_sqrt(x); }
#else
DLSI_FN dls_real dlsi_sqrt_real(dls_real x) { return dlsi_sqrtf(x); }
#endif
/* log x, x > 0 and normal, relative error below 2e-7. Own minimax polynomial on
   [sqrt 1/2, sqrt 2]. */
DLSI_FN float dlsi_logf(float x) {
    const uint32_t bits = dlsi_float_bits(x) - 0x3F3504F3u; /* relative to sqrt 1/2 */
    const int32_t exponent = (int32_t)(bits >> 23) - (bits >= 0x80000000u ? 512 : 0);
    const float f = dlsi_bits_float((bits & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f, k = (float)exponent;
    float p = 6.9367349e-2f;
    p = p * f - 1.1825972e-1f;
    p = p * f + 1.1882683e-1f;
    p = p * f - 1.2379225e-1f;
    p = p * f + 1.4216790e-1f;
    p = p * f - 1.6669466e-1f;
    p = p * f + 2.0002319e-1f;
    p = p * f - 2.4999984e-1f;
    p = p * f + 3.3333310e-1f;
    p = p * f * f * f - 0.5f * f * f + k * -2.12194440e-4f;
    return f + p + k * 0.693359375f;
}
#if DLS_REAL64
DLSI_FN dls_real dlsi_log_real(dls_real x) { return dlsi_log(x); }
#else
DLSI_FN dls_real dlsi_log_real(dls_real x) { return dlsi_logf(x); }
#endif
DLS_API float dls_rng_normal(dls_rng *rng) {
    double u = ((double)dls_rng_u32(rng) + 0.5) * (1.0 / 4294967296.0);
    double v = (double)dls_rng_u32(rng) * (1.0 / 4294967296.0);
    return (float)(dlsi_sqrt(-2.0 * dlsi_log(u)) * dlsi_cos(6.283185307179586477 * v));
}

/* A decimal number at *p; moves *p behind it. Not for hexadecimal, infinity or NaN. */
DLSI_FN bool dlsi_number(const char **p, const char *end, double *value) {
    const char *s = *p;
    double v = 0.0;
    int32_t exponent = 0, digits = 0, e = 0;
    bool negative = false, minus = false;
    while (s < end && (*s == ' ' || *s == '\t' || *s == '"')) s++;
    if (s < end && (*s == '-' || *s == '+')) negative = *s++ == '-';
    for (; s < end && *s >= '0' && *s <= '9'; s++, digits++) v = v * 10.0 + (double)(*s - '0');
    if (s < end && *s == '.')
        for (s++; s < end && *s >= '0' && *s <= '9'; s++, digits++, exponent--)
            v = v * 10.0 + (double)(*s - '0');
    if (digits == 0) return false;
    if (s < end && (*s == 'e' || *s == 'E')) {
        s++;
        if (s < end && (*s == '-' || *s == '+')) minus = *s++ == '-';
        for (; s < end && *s >= '0' && *s <= '9'; s++) e = e < 10000 ? e * 10 + (*s - '0') : e;
        exponent += minus ? -e : e;
    }
    while (s < end && (*s == ' ' || *s == '\t' || *s == '"')) s++;
    if (exponent > 0 && v > 0.0) v *= exponent > 400 ? 1e308 * 10.0 : dlsi_power(10.0, exponent);
    if (exponent < 0)
        v = exponent < -600   ? 0.0
            : exponent < -300 ? v / 1e300 / dlsi_power(10.0, -exponent - 300)
                              : v / dlsi_power(10.0, -exponent);
    *p = s;
    *value = negative ? -v : v;
    return true;
}
/* ------------------------------------------------------------------------------------------------
   >>port.impl  deps: config base port.api */

#if DLSI_HOSTED
#include <time.h>
#include <unistd.h>
#ifndef CLOCK_MONOTONIC
#error "dlshard: include the implementation before any system header, or define _DEFAULT_SOURCE"
#endif
#endif
#ifndef DLS_NOW_US
#if DLSI_HOSTED
DLSI_FN uint64_t dlsi_port_now(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
#define DLS_NOW_US() dlsi_port_now()
#else
#define DLS_NOW_US() ((uint64_t)0)
#endif
#endif
DLS_API uint64_t dls_now_us(void) { return DLS_NOW_US(); }
#if DLSI_HOSTED
/* Seconds of the calendar, for what must be greater at each start of the program. */
DLSI_FN uint32_t dlsi_port_seconds(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t) != 0) return 0;
    return (uint32_t)((uint64_t)t.tv_sec & 0xFFFFFFFFu);
}
#endif

#if DLSI_HOSTED && defined(_SC_NPROCESSORS_ONLN)
DLS_API int32_t dls_cpu_count(void) {
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > DLS_THREADS_MAX ? DLS_THREADS_MAX : (int32_t)n;
}
#else
DLS_API int32_t dls_cpu_count(void) { return 1; }
#endif

#if DLS_ENABLE_PEERS
#ifndef DLS_RANDOM
#if !DLSI_HOSTED
#error "dlshard: DLS_ENABLE_PEERS without an OS needs DLS_RANDOM(ptr, bytes), see >>port.api"
#endif
#if defined(__APPLE__)
#include <sys/random.h>
#endif
/* At most 256 bytes a call; waits until the kernel has gathered enough at boot. */
DLSI_FN int dlsi_port_random(void *to, size_t bytes) {
    unsigned char *p = (unsigned char *)to;
    while (bytes > 0) {
        const size_t n = bytes < 256 ? bytes : 256;
        if (getentropy(p, n) != 0) return -1;
        p += n;
        bytes -= n;
    }
    return 0;
}
#define DLS_RANDOM(ptr, bytes) dlsi_port_random(ptr, bytes)
#endif
DLS_API dls_status dls_random(void *to, size_t bytes) {
    if (bytes == 0 || DLS_RANDOM(to, bytes) == 0) return DLS_OK;
    memset(to, 0, bytes); /* half-filled must not pass for a key */
    return DLS_E_IO;
}
#endif

#if DLS_ENABLE_FILES
/* Files. A handle is FILE*; hooks may use any pointer-sized handle. Modes: "rb", "wb".
   READ and WRITE return the bytes done; fewer than asked means end of file or an error, which
   ERROR tells apart (0: none, else an errno). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#ifndef DLS_FS_OPEN
#define DLS_FS_OPEN(path, mode) fopen(path, mode)
#define DLS_FS_READ(file, buf, bytes) fread(buf, 1, bytes, file)
#define DLS_FS_WRITE(file, buf, bytes) fwrite(buf, 1, bytes, file)
#define DLS_FS_SEEK(file, offset, whence) fseek(file, offset, whence)
#define DLS_FS_TELL(file) ftell(file)
#define DLS_FS_SYNC(file) (fflush(file) != 0 ? -1 : fsync(fileno(file)))
#define DLS_FS_CLOSE(file) fclose(file)
#define DLS_FS_RENAME(from, to) rename(from, to)
#define DLS_FS_REMOVE(path) remove(path)
#endif

DLSI_FN dls_status dlsi_port_errno(dls_error *error, const char *path, const char *what) {
    int code = errno;
    dls_status st = code == ENOENT ? DLS_E_NOT_FOUND : code == ENOSPC ? DLS_E_FULL : DLS_E_IO;
    return dlsi_fail(error, st, what, path, (int32_t)code, 0, 0);
}

#if DLS_ENABLE_HEAP
/* A whole file to fresh memory, to be freed with DLS_FREE. An empty file is one zero byte, size 0.
   */
DLSI_FN dls_status dlsi_port_read_file(const char *path, void **bytes, size_t *count,
                                       dls_error *error) {
    FILE *file;
    long end;
    void *mem;
    *bytes = NULL;
    *count = 0;
    errno = 0;
    file = DLS_FS_OPEN(path, "rb");
    if (file == NULL)
        return dlsi_port_errno(error, path, DLSI_MSG("cannot open '{s}' (errno {0})"));
    end = DLS_FS_SEEK(file, 0, SEEK_END) == 0 ? DLS_FS_TELL(file) : -1;
    if (end < 0 || end == LONG_MAX || DLS_FS_SEEK(file, 0, SEEK_SET) != 0) {
        dls_status st = dlsi_port_errno(
            error, path, DLSI_MSG("cannot seek in '{s}' (errno {0}); is it a file?"));
        DLS_FS_CLOSE(file);
        return st;
    }
    mem = DLS_MALLOC((size_t)end + 1);
    if (mem == NULL) {
        DLS_FS_CLOSE(file);
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("'{s}' does not fit in memory"), path, 0, 0,
                         0);
    }
    errno = 0;
    if (DLS_FS_READ(file, mem, (size_t)end) != (size_t)end) {
        dls_status st =
            dlsi_port_errno(error, path, DLSI_MSG("cannot read '{s}' to its end (errno {0})"));
        DLS_FS_CLOSE(file);
        DLS_FREE(mem);
        return st;
    }
    DLS_FS_CLOSE(file);
    ((unsigned char *)mem)[end] = 0;
    *bytes = mem;
    *count = (size_t)end;
    return DLS_OK;
}

/* Replaces a file as a whole: after a crash there is the old one or the new one. */
DLSI_FN dls_status dlsi_port_write_file(const char *path, const void *bytes, size_t count,
                                        dls_error *error) {
    size_t length = strlen(path);
    char *beside = (char *)DLS_MALLOC(length + 5);
    dls_status st = DLS_OK;
    FILE *file;
    if (beside == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for a path"), path, 0, 0, 0);
    memcpy(beside, path, length);
    memcpy(beside + length, ".new", 5);
    errno = 0;
    file = DLS_FS_OPEN(beside, "wb");
    if (file == NULL) {
        st = dlsi_port_errno(error, path, DLSI_MSG("cannot create '{s}.new' (errno {0})"));
    } else {
        bool good = DLS_FS_WRITE(file, bytes, count) == count && DLS_FS_SYNC(file) == 0;
        if (!good)
            st = dlsi_port_errno(error, path, DLSI_MSG("cannot write '{s}.new' (errno {0})"));
        if (DLS_FS_CLOSE(file) != 0 && good)
            st = dlsi_port_errno(error, path, DLSI_MSG("cannot close '{s}.new' (errno {0})"));
        if (st == DLS_OK && DLS_FS_RENAME(beside, path) != 0)
            st = dlsi_port_errno(error, path, DLSI_MSG("cannot replace '{s}' (errno {0})"));
        if (st != DLS_OK) (void)DLS_FS_REMOVE(beside);
    }
    DLS_FREE(beside);
    return st;
}
#endif
#endif

/* ------------------------------------------------------------------------------------------------
   >>tensor.impl  deps: config base tensor.api  */

DLS_API size_t dls_dtype_bytes(dls_dtype dtype) {
    return dtype == DLS_F32 ? sizeof(dls_real) : dtype == DLS_I32 ? 4u : 1u;
}
DLS_API size_t dls_shape_count(dls_shape shape) {
    const int32_t most = DLS_DIM_MAX;
    if (shape.h < 1 || shape.w < 1 || shape.c < 1) return 0;
    if (shape.h > most / shape.w || shape.h * shape.w > most / shape.c) return 0;
    return (size_t)shape.h * (size_t)shape.w * (size_t)shape.c;
}
DLS_API bool dls_shape_equal(dls_shape a, dls_shape b) {
    return a.h == b.h && a.w == b.w && a.c == b.c;
}

/* ------------------------------------------------------------------------------------------------
   >>kern.impl                                                  deps: config base kern.api
   A kernel runs on one thread and knows nothing of graphs. Each variant (instruction set, strict or
   fast) is one table. Two rules make results equal where the contract says so:
   - an element that is a sum of products adds them in ascending order in one accumulator, so
   blocking,
     vector width and threads do not change it;
   - a reduction of a row to one number runs in 16 lanes, element i in lane i % 16, and lanes are
   added
     as a fixed tree.
   Strict variants differ in one thing: they multiply, round, add, round; never fused. */

#define DLSI_LANES 16 /* of a reduction */
#if DLSI_HOSTED
#define DLSI_SEGS 64 /* segments handed to a tile at once */
#else
#define DLSI_SEGS 12
#endif

/* A tile of C: up to mr rows by nv vectors, sums over segments of k products each. */
typedef struct dlsi_seg {
    ptrdiff_t a, b; /* where the segment starts */
} dlsi_seg;
typedef struct dlsi_tile {
    const dls_real *a, *b;
    dls_real *c;
    const dlsi_seg *seg;
    const dls_real *bias; /* one per column, or NULL */
    const dls_real *res;  /* added to C after bias, laid out as C; or NULL */
    ptrdiff_t a_step;     /* between rows of A (k contiguous), or between k (rows contiguous) */
    ptrdiff_t b_step;     /* between k */
    ptrdiff_t ldc;
    int32_t segs, k, cols;
    bool cont;       /* go on from C instead of 0 */
    bool last;       /* bias, res and clamp now */
    dls_real lo, hi; /* clamp */
} dlsi_tile;

/* C = clamp(A B + bias + res), see dlsi_tile; A and B by strides, of which one is 1 each. */
typedef struct dlsi_gemm {
    const dls_real *a, *b;
    dls_real *c;
    const dls_real *bias, *res;
    ptrdiff_t a_row, a_k, b_k, b_col, ldc;
    int32_t m, n, k;
    bool b_packed; /* b is panels from dlsi_kern.pack: [n / nr][k][nr] */
    bool cont;     /* C += A B, then bias, res, clamp */
    dls_real lo, hi;
} dlsi_gemm;

/* Correlation of one image: y(i, j, o) = clamp(bias[o] + res + sum over taps r, s and channels c of
   x(i sh + r dh - pt, j sw + s dw - pl, c) b(r, s, c, o)), taps outside x left out.
   Forward convolution, and its gradient by x with flipped weights, are both this. */
typedef struct dlsi_corr {
    const dls_real *x, *b;
    dls_real *y;
    const dls_real *bias, *res;
    ptrdiff_t x_pix, x_row; /* between pixels and rows */
    ptrdiff_t y_pix, y_row;
    ptrdiff_t b_k;     /* between successive (r, s, c) of b */
    ptrdiff_t b_panel; /* between panels of nr outputs */
    int32_t h, w, c, oh, ow, oc;
    int32_t kh, kw, sh, sw, dh, dw, pt, pl;
    dls_real lo, hi;
} dlsi_corr;

/* 3x3 stride-1 convolution of n images by Winograd's F(4x4, 3x3). Lavin & Gray 2016. */
typedef struct dlsi_wino {
    const dls_real *x;
    dls_real *y;
    const dls_real *bias, *res;
    int32_t n, h, w, c, oh, ow, oc, pt, pl, th, tw; /* th x tw tiles of 4x4 outputs an image */
    dls_real lo, hi;
} dlsi_wino;
#define DLSI_WINO_POINTS 36

typedef struct dlsi_adam {
    dls_real lr, beta1, beta2, eps, decay, correct1, correct2; /* correct: 1 / (1 - beta^t) */
    bool decoupled;
} dlsi_adam;

typedef struct dlsi_kern {
    int32_t vw, mr, nr; /* floats of a vector; tile rows and columns */
    bool fast_conv;     /* wide enough for Winograd to pay; never when strict */
    /* matrices and convolutions */
    void (*pack)(const dls_real *b, ptrdiff_t b_k, ptrdiff_t b_col, int32_t k, int32_t n,
                 dls_real *dst, ptrdiff_t dst_panel);
    void (*gemm)(const dlsi_gemm *g, dls_real *work);
    void (*corr)(const dlsi_corr *g, int32_t y0, int32_t y1, int32_t panel0, int32_t panel1);
    void (*corr_dw)(const dlsi_corr *g, int32_t y0, int32_t y1, dls_real *dw, bool cont);
    void (*depthwise)(const dlsi_corr *g, int32_t y0, int32_t y1);
    void (*depthwise_dw)(const dlsi_corr *g, int32_t y0, int32_t y1, dls_real *dw);
    void (*wino_filter)(const dls_real *w, ptrdiff_t tap, ptrdiff_t b_k, ptrdiff_t b_col, bool flip,
                        int32_t k, int32_t n, dls_real *dst);
    void (*wino_gather)(const dlsi_wino *g, int32_t t0, int32_t t1, dls_real *v);
    void (*wino_scatter)(const dlsi_wino *g, int32_t t0, int32_t t1, const dls_real *m);
    void (*wino_gather_dy)(const dlsi_wino *g, int32_t t0, int32_t t1, dls_real *v);
    void (*wino_filter_grad)(const dls_real *u, int32_t c, int32_t oc, dls_real *dw, bool add);
    /* elementwise */
    void (*act)(dls_act act, float slope, const dls_real *x, dls_real *y, size_t n);
    void (*act_grad)(dls_act act, float slope, const dls_real *ref, const dls_real *dy,
                     dls_real *dx, size_t n, bool add);
    void (*add)(const dls_real *a, const dls_real *b, dls_real *y, size_t n, dls_real lo,
                dls_real hi);
    void (*mul)(const dls_real *a, const dls_real *b, dls_real *y, size_t n, bool add);
    void (*axpby)(dls_real a, const dls_real *x, dls_real b, dls_real *y, size_t n);
    void (*dropout)(const dls_real *x, dls_real *y, size_t n, uint64_t seed, uint32_t at,
                    uint32_t threshold, dls_real scale, bool add);
    /* columns: x is rows x c */
    void (*col_sum)(const dls_real *x, size_t rows, int32_t c, dls_real *sum, bool add);
    void (*col_stats)(const dls_real *x, size_t rows, int32_t c, const dls_real *shift,
                      dls_real *sum, dls_real *squares);
    void (*col_affine)(const dls_real *x, size_t rows, int32_t c, const dls_real *scale,
                       const dls_real *shift, dls_real *y, dls_real lo, dls_real hi);
    void (*col_grad_stats)(const dls_real *x, const dls_real *dy, size_t rows, int32_t c,
                           const dls_real *mean, const dls_real *scale, const dls_real *shift,
                           dls_real lo, dls_real hi, dls_real *dy_sum, dls_real *dyx_sum);
    void (*col_grad)(const dls_real *x, const dls_real *dy, size_t rows, int32_t c,
                     const dls_real *a, const dls_real *b, const dls_real *d, const dls_real *scale,
                     const dls_real *shift, dls_real lo, dls_real hi, dls_real *dx, bool add);
    /* rows: each of c elements */
    void (*softmax)(const dls_real *x, dls_real *y, size_t rows, int32_t c, dls_real scale,
                    dls_real *log_sum);
    void (*softmax_grad)(const dls_real *y, const dls_real *dy, dls_real *dx, size_t rows,
                         int32_t c, bool add);
    void (*score_grad)(dls_real *s, dls_real *ds, size_t n, dls_real scale, dls_real log_sum,
                       dls_real dot);
    void (*norm)(const dls_real *x, dls_real *y, size_t rows, int32_t c, const dls_real *gain,
                 const dls_real *bias, dls_real eps, dls_real *mean, dls_real *istd);
    void (*norm_grad)(const dls_real *x, const dls_real *dy, dls_real *dx, size_t rows, int32_t c,
                      const dls_real *gain, const dls_real *mean, const dls_real *istd, bool add);
    void (*norm_grad_gain)(const dls_real *x, const dls_real *dy, size_t rows, int32_t c,
                           const dls_real *mean, const dls_real *istd, dls_real *dgain);
    dls_real (*row_max)(const dls_real *x, size_t n);
    dls_real (*sum)(const dls_real *x, size_t n);
    dls_real (*dot)(const dls_real *a, const dls_real *b, size_t n);
    /* pools: one image, output rows [y0, y1), c channels; uses the geometry of dlsi_corr */
    void (*maxpool)(const dlsi_corr *g, int32_t y0, int32_t y1);
    void (*maxpool_grad)(const dlsi_corr *g, const dls_real *y, const dls_real *dy, dls_real *dx);
    void (*avgpool)(const dlsi_corr *g, int32_t y0, int32_t y1, bool count_padding);
    void (*avgpool_grad)(const dlsi_corr *g, const dls_real *dy, dls_real *dx, bool count_padding);
    /* optimisers: one pass over a range; g is scaled by scale first */
    void (*sgd)(dls_real *w, const dls_real *g, dls_real *m, size_t n, dls_real lr,
                dls_real momentum, dls_real decay, bool nesterov, dls_real scale);
    void (*adam)(dls_real *w, const dls_real *g, dls_real *m, dls_real *v, size_t n,
                 const dlsi_adam *p, dls_real scale);
    void (*rmsprop)(dls_real *w, const dls_real *g, dls_real *v, dls_real *m, size_t n,
                    const dlsi_adam *p, float momentum, dls_real scale);
    void (*lion)(dls_real *w, const dls_real *g, dls_real *m, size_t n, const dlsi_adam *p,
                 dls_real scale);
    /* exact reduction */
    dls_real (*max_abs)(const dls_real *x, size_t n); /* NaN counts as infinity */
    void (*exact_add)(int32_t *sum, const dls_real *x, size_t n, dls_real scale, bool first);
    void (*exact_get)(const int32_t *sum, dls_real *x, size_t n, dls_real scale);
} dlsi_kern;

/* What an activation's gradient is computed from. */
DLSI_INLINE bool dlsi_act_from_y(dls_act act) {
    return act == DLS_ACT_NONE || act == DLS_ACT_RELU || act == DLS_ACT_RELU6 ||
           act == DLS_ACT_LEAKY || act == DLS_ACT_SIGMOID || act == DLS_ACT_TANH;
}
/* Whether an activation is a clamp, which kernels apply as they write. */
DLSI_INLINE bool dlsi_act_clamp(dls_act act, dls_real *lo, dls_real *hi) {
    const dls_real huge = (dls_real)dlsi_bits_float(0x7F800000u); /* infinity */
    *lo = act == DLS_ACT_RELU || act == DLS_ACT_RELU6 ? (dls_real)0 : -huge;
    *hi = act == DLS_ACT_RELU6 ? (dls_real)6 : huge;
    return act == DLS_ACT_NONE || act == DLS_ACT_RELU || act == DLS_ACT_RELU6;
}

/* First output whose tap r lies inside x, and one past the last: i s + r d - p in [0, size). */
DLSI_INLINE void dlsi_tap_range(int32_t size, int32_t out, int32_t r, int32_t s, int32_t d,
                                int32_t p, int32_t *first, int32_t *end) {
    int32_t below = p - r * d, above = size - 1 + below;
    *first = below <= 0 ? 0 : (below + s - 1) / s;
    *end = above < 0 ? 0 : dlsi_min_i32(out, above / s + 1);
    if (*first > *end) *first = *end;
}
/* Taps of output i that lie inside x: r in [*first, *end). */
DLSI_INLINE void dlsi_taps_inside(int32_t size, int32_t taps, int32_t i, int32_t s, int32_t d,
                                  int32_t p, int32_t *first, int32_t *end) {
    int32_t at = i * s - p;
    *first = at >= 0 ? 0 : (-at + d - 1) / d;
    *end = at >= size ? 0 : dlsi_min_i32(taps, (size - 1 - at) / d + 1);
    if (*first > taps) *first = taps;
    if (*end < *first) *end = *first;
}

#define DLSI_KC 256                     /* k of a block of B: a panel, kc x nr, is at most 32 KB */
#define DLSI_NC (DLSI_HOSTED ? 512 : 8) /* its columns: half a MB, for the second-level cache */
#define DLSI_PANELS 16                  /* of rows of A that are treated together */

/* Whether B is read where it is: in scalar code, or when too few rows of A would pay for packing.
   */
DLSI_INLINE bool dlsi_gemm_direct(const dlsi_gemm *g, int32_t vw, int32_t mr) {
    return !g->b_packed && g->b_col == 1 && (vw == 1 || (g->m <= mr && g->n % vw == 0));
}
/* Whether A is copied, a block at a time: rows far apart, or at a stride that cache sets share.
   When sizes are asked before A is known, its strides are 0: assume so. */
DLSI_INLINE bool dlsi_gemm_copies(const dlsi_gemm *g, int32_t vw, int32_t mr, int32_t nr) {
    if (vw == 1 || g->n <= nr) return false;
    return g->a_k == 0 || (g->a_k != 1 ? g->a_k > 2 * mr : g->a_row % 512 == 0);
}
/* Reals of work for one block of B, packed. */
DLSI_INLINE size_t dlsi_gemm_pack_reals(const dlsi_gemm *g, int32_t vw, int32_t mr, int32_t nr) {
    const int32_t nc = dlsi_min_i32(g->n, DLSI_NC), kc = dlsi_min_i32(g->k, DLSI_KC);
    if (g->b_packed || dlsi_gemm_direct(g, vw, mr)) return 0;
    return (size_t)(dlsi_ceil_div(nc, nr) * nr) * (size_t)kc;
}

/* Four rows of four, transposed: dst[j * to + i] = src[i * from + j]. */
#if DLSI_X86
DLSI_INLINE void dlsi_transpose4(const dls_real *src, ptrdiff_t from, dls_real *dst, ptrdiff_t to) {
    const __m128 a = _mm_loadu_ps(src), b = _mm_loadu_ps(src + from);
    const __m128 c = _mm_loadu_ps(src + 2 * from), d = _mm_loadu_ps(src + 3 * from);
    const __m128 ab = _mm_unpacklo_ps(a, b), cd = _mm_unpacklo_ps(c, d);
    const __m128 ef = _mm_unpackhi_ps(a, b), gh = _mm_unpackhi_ps(c, d);
    _mm_storeu_ps(dst, _mm_movelh_ps(ab, cd));
    _mm_storeu_ps(dst + to, _mm_movehl_ps(cd, ab));
    _mm_storeu_ps(dst + 2 * to, _mm_movelh_ps(ef, gh));
    _mm_storeu_ps(dst + 3 * to, _mm_movehl_ps(gh, ef));
}
#elif DLSI_NEON
DLSI_INLINE void dlsi_transpose4(const dls_real *src, ptrdiff_t from, dls_real *dst, ptrdiff_t to) {
    const float32x4x2_t p = vtrnq_f32(vld1q_f32(src), vld1q_f32(src + from));
    const float32x4x2_t q = vtrnq_f32(vld1q_f32(src + 2 * from), vld1q_f32(src + 3 * from));
    vst1q_f32(dst, vcombine_f32(vget_low_f32(p.val[0]), vget_low_f32(q.val[0])));
    vst1q_f32(dst + to, vcombine_f32(vget_low_f32(p.val[1]), vget_low_f32(q.val[1])));
    vst1q_f32(dst + 2 * to, vcombine_f32(vget_high_f32(p.val[0]), vget_high_f32(q.val[0])));
    vst1q_f32(dst + 3 * to, vcombine_f32(vget_high_f32(p.val[1]), vget_high_f32(q.val[1])));
}
#else
DLSI_INLINE void dlsi_transpose4(const dls_real *src, ptrdiff_t from, dls_real *dst, ptrdiff_t to) {
    int i, j;
    for (i = 0; i < 4; i++)
        for (j = 0; j < 4; j++) dst[j * to + i] = src[i * from + j];
}
#endif

/* Parts of vectors: the first n elements, 1 <= n <= the width. */
#if DLSI_X86
DLSI_INLINE __attribute__((target("avx2"))) __m256i dlsi_avx2_mask(int n) {
    static const int32_t mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(const void *)(mask + 8 - n));
}
DLSI_INLINE __attribute__((target("avx512f"))) __mmask16 dlsi_avx512_mask(int n) {
    return (__mmask16)(0xFFFFu >> (16 - n));
}
#endif
#if DLSI_NEON
DLSI_INLINE float32x4_t dlsi_neon_load(const float *p, int n) {
    float t[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (n == 4) return vld1q_f32(p);
    memcpy(t, p, (size_t)n * sizeof *t);
    return vld1q_f32(t);
}
DLSI_INLINE void dlsi_neon_store(float *p, float32x4_t v, int n) {
    float t[4];
    if (n == 4) {
        vst1q_f32(p, v);
        return;
    }
    vst1q_f32(t, v);
    memcpy(p, t, (size_t)n * sizeof *t);
}
#endif

#define DLSI_VARIANTS (1 + 3 * DLSI_X86 + 2 * DLSI_NEON)
#endif /* DLSI_BUILDING */
#endif /* DLSI_PASS */

/* ------------------------------------------------------------------------------------------------
   >>kern.pass   the kernels, compiled once per variant                             deps: kern.impl
   DLSI_PASS is the variant. DLSI_VF is a vector of DLSI_VW reals; + - * / work on it as they are.
   LDN, STN touch only the first n elements (n >= 1; all when n >= VW; LDN fills with zeros).
   MAX(a, b) is a > b ? a : b, so a NaN in b passes; MIN alike. FMA(a, b, c) is a b + c, fused in
   fast variants. A kernel that can serve as scalar code is all there is of scalar code.
        */

#ifdef DLSI_PASS
#define DLSI_PASTE3(a, b, c) a##b##c
#define DLSI_PASTE(a, b, c) DLSI_PASTE3(a, b, c)
#define DLSI_V(name) DLSI_PASTE(dlsi_, name, DLSI_SUFFIX)

/* Whether this is a vector pass and not a strict one. */
#define DLSI_FAST (DLSI_PASS == 2 || DLSI_PASS == 4 || DLSI_PASS == 5)
#if DLSI_PASS == 1 /* ---- scalar ---- */
#define DLSI_SUFFIX _scalar
#define DLSI_VT
#define DLSI_VF dls_real
#define DLSI_VM bool
#define DLSI_VW 1
#define DLSI_MR 4
#define DLSI_NV 4
#define DLSI_LD(p) (*(p))
#define DLSI_ST(p, v) (*(p) = (v))
#define DLSI_LDN(p, n) ((void)(n), *(p))
#define DLSI_STN(p, v, n) ((void)(n), (void)(*(p) = (v)))
#define DLSI_SET(x) ((dls_real)(x))
#define DLSI_FMA(a, b, c) ((a) * (b) + (c))
#define DLSI_MAX(a, b) ((a) > (b) ? (a) : (b))
#define DLSI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define DLSI_SQRT(v) dlsi_sqrt_real(v)
#define DLSI_GT(a, b) ((a) > (b))
#define DLSI_SEL(m, a, b) ((m) ? (a) : (b))
#define DLSI_AND(m, n) ((m) && (n))

#elif DLSI_PASS == 2 || DLSI_PASS == 3 /* ---- AVX2, fast and strict ---- */
#define DLSI_VF __m256
#define DLSI_VM __m256
#define DLSI_VW 8
#define DLSI_MR 6
#define DLSI_NV 2
#define DLSI_LD(p) _mm256_loadu_ps(p)
#define DLSI_ST(p, v) _mm256_storeu_ps(p, v)
#define DLSI_LDN(p, n) _mm256_maskload_ps(p, dlsi_avx2_mask(n))
#define DLSI_STN(p, v, n) _mm256_maskstore_ps(p, dlsi_avx2_mask(n), v)
#define DLSI_SET(x) _mm256_set1_ps(x)
#define DLSI_MAX(a, b) _mm256_max_ps(a, b)
#define DLSI_MIN(a, b) _mm256_min_ps(a, b)
#define DLSI_SQRT(v) _mm256_sqrt_ps(v)
#define DLSI_GT(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define DLSI_SEL(m, a, b) _mm256_blendv_ps(b, a, m)
#define DLSI_AND(m, n) _mm256_and_ps(m, n)
#if DLSI_PASS == 2
#define DLSI_SUFFIX _avx2
#define DLSI_VT __attribute__((target("avx2,fma")))
#define DLSI_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#else
#define DLSI_SUFFIX _avx2s
#define DLSI_VT __attribute__((target("avx2")))
#define DLSI_FMA(a, b, c) ((a) * (b) + (c))
#endif

#elif DLSI_PASS == 4 /* ---- AVX-512, fast ---- */
#define DLSI_SUFFIX _avx512
#define DLSI_VT __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")))
#define DLSI_VF __m512
#define DLSI_VM __mmask16
#define DLSI_VW 16
#define DLSI_MR 14
#define DLSI_NV 2
#define DLSI_LD(p) _mm512_loadu_ps(p)
#define DLSI_ST(p, v) _mm512_storeu_ps(p, v)
#define DLSI_LDN(p, n) _mm512_maskz_loadu_ps(dlsi_avx512_mask(n), p)
#define DLSI_STN(p, v, n) _mm512_mask_storeu_ps(p, dlsi_avx512_mask(n), v)
#define DLSI_SET(x) _mm512_set1_ps(x)
#define DLSI_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define DLSI_MAX(a, b) _mm512_max_ps(a, b)
#define DLSI_MIN(a, b) _mm512_min_ps(a, b)
#define DLSI_SQRT(v) _mm512_sqrt_ps(v)
#define DLSI_GT(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define DLSI_SEL(m, a, b) _mm512_mask_blend_ps(m, b, a)
#define DLSI_AND(m, n) ((__mmask16)((m) & (n)))

#else /* ---- NEON, fast (5) and strict (6) ---- */
#define DLSI_VT
#define DLSI_VF float32x4_t
#define DLSI_VM uint32x4_t
#define DLSI_VW 4
#define DLSI_MR 6
#define DLSI_NV 4
#define DLSI_LD(p) vld1q_f32(p)
#define DLSI_ST(p, v) vst1q_f32(p, v)
#define DLSI_LDN(p, n) dlsi_neon_load(p, n)
#define DLSI_STN(p, v, n) dlsi_neon_store(p, v, n)
#define DLSI_SET(x) vdupq_n_f32(x)
#define DLSI_MAX(a, b) vbslq_f32(vcgtq_f32(a, b), a, b)
#define DLSI_MIN(a, b) vbslq_f32(vcltq_f32(a, b), a, b)
#define DLSI_SQRT(v) vsqrtq_f32(v)
#define DLSI_GT(a, b) vcgtq_f32(a, b)
#define DLSI_SEL(m, a, b) vbslq_f32(m, a, b)
#define DLSI_AND(m, n) vandq_u32(m, n)
#if DLSI_PASS == 5
#define DLSI_SUFFIX _neon
#define DLSI_FMA(a, b, c) vfmaq_f32(c, a, b)
#else
#define DLSI_SUFFIX _neons
#define DLSI_FMA(a, b, c) ((a) * (b) + (c))
#endif
#endif

#define DLSI_NR (DLSI_NV * DLSI_VW)
#define DLSI_LV (DLSI_LANES / DLSI_VW) /* vectors that hold the lanes of a reduction */
#define DLSI_KFN DLSI_FN DLSI_VT
#define DLSI_KINLINE DLSI_INLINE DLSI_VT
/* Elements left for a vector at i of n, as LDN and STN want it. */
#define DLSI_LEFT(n, i) ((n) - (i) < (size_t)DLSI_VW ? (int)((n) - (i)) : DLSI_VW)

/* ---- Integers and rounding, where vectors and scalars differ in more than a name ---- */

#if DLSI_VW == 1
typedef uint32_t DLSI_V(vu);
DLSI_INLINE uint32_t DLSI_V(vu_iota)(uint32_t at) { return at; }
DLSI_INLINE dls_real DLSI_V(keep)(uint32_t r, uint32_t threshold, dls_real x) {
    return r >= threshold ? x : (dls_real)0;
}
DLSI_INLINE dls_real DLSI_V(load_ints)(const int32_t *p, int n) {
    (void)n;
    return (dls_real)*p;
}
/* To nearest, ties to even; |v| <= 2^30. */
DLSI_FN void DLSI_V(add_ints)(int32_t *p, dls_real v, int n, bool first) {
    int32_t t = (int32_t)v;
    dls_real rest = v - (dls_real)t;
    uint32_t u;
    (void)n;
    if (rest > (dls_real)0.5 || (rest == (dls_real)0.5 && (t & 1) != 0)) t++;
    if (rest < (dls_real)-0.5 || (rest == (dls_real)-0.5 && (t & 1) != 0)) t--;
    u = first ? (uint32_t)t : (uint32_t)*p + (uint32_t)t;
    memcpy(p, &u, sizeof u);
}
#else
typedef uint32_t DLSI_V(vu) __attribute__((vector_size(DLSI_VW * 4)));
DLSI_KINLINE DLSI_V(vu) DLSI_V(vu_iota)(uint32_t at) {
    uint32_t t[DLSI_VW];
    DLSI_V(vu) v;
    int i;
    DLSI_UNROLL for (i = 0; i < DLSI_VW; i++) t[i] = (uint32_t)i;
    memcpy(&v, t, sizeof v);
    return v + at;
}
DLSI_KINLINE DLSI_VF DLSI_V(keep)(DLSI_V(vu) r, uint32_t threshold, DLSI_VF x) {
    DLSI_V(vu) mask = (DLSI_V(vu))(r >= threshold);
    return (DLSI_VF)((DLSI_V(vu))x & mask);
}
#if DLSI_PASS == 4
DLSI_KINLINE DLSI_VF DLSI_V(load_ints)(const int32_t *p, int n) {
    return _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(dlsi_avx512_mask(n), p));
}
DLSI_KINLINE void DLSI_V(add_ints)(int32_t *p, DLSI_VF v, int n, bool first) {
    __mmask16 m = dlsi_avx512_mask(n);
    __m512i q = _mm512_cvtps_epi32(v);
    if (!first) q = _mm512_add_epi32(q, _mm512_maskz_loadu_epi32(m, p));
    _mm512_mask_storeu_epi32(p, m, q);
}
#elif DLSI_PASS == 2 || DLSI_PASS == 3
DLSI_KINLINE DLSI_VF DLSI_V(load_ints)(const int32_t *p, int n) {
    return _mm256_cvtepi32_ps(_mm256_maskload_epi32(p, dlsi_avx2_mask(n)));
}
DLSI_KINLINE void DLSI_V(add_ints)(int32_t *p, DLSI_VF v, int n, bool first) {
    __m256i m = dlsi_avx2_mask(n), q = _mm256_cvtps_epi32(v);
    if (!first) q = _mm256_add_epi32(q, _mm256_maskload_epi32(p, m));
    _mm256_maskstore_epi32(p, m, q);
}
#else
DLSI_KINLINE DLSI_VF DLSI_V(load_ints)(const int32_t *p, int n) {
    int32_t t[4] = {0, 0, 0, 0};
    memcpy(t, p, (size_t)n * sizeof *t);
    return vcvtq_f32_s32(vld1q_s32(t));
}
DLSI_KINLINE void DLSI_V(add_ints)(int32_t *p, DLSI_VF v, int n, bool first) {
    int32_t t[4] = {0, 0, 0, 0};
    int32x4_t q = vcvtnq_s32_f32(v);
    if (!first) memcpy(t, p, (size_t)n * sizeof *t);
    vst1q_s32(t, vaddq_s32(q, vld1q_s32(t)));
    memcpy(p, t, (size_t)n * sizeof *t);
}
#endif
#endif

/* ---- Elementary functions ---- */

#if DLS_REAL64
DLSI_INLINE double DLSI_V(vexp)(double x) { return dlsi_exp(x); }
DLSI_INLINE double DLSI_V(vtanh)(double x) {
    double e = dlsi_exp(-2.0 * (x < 0 ? -x : x)), y = (1.0 - e) / (1.0 + e);
    return x < 0 ? -y : y;
}
DLSI_FN double DLSI_V(verf)(double x) {
    double term = x, sum = x;
    int i;
    if (x > 6.0) return 1.0;
    if (x < -6.0) return -1.0;
    for (i = 1; i < 200; i++) {
        term *= 2.0 * x * x / (double)(2 * i + 1);
        sum += term;
    }
    return 1.12837916709551257390 * sum * dlsi_exp(-x * x);
}
#else
/* 2^k for integral k in [-126, 127], held in float. */
DLSI_KINLINE DLSI_VF DLSI_V(pow2)(DLSI_VF k) {
    /* adding 1.5 2^23 leaves k in the low bits of the mantissa */
    DLSI_VF shifted = k + DLSI_SET(12582912.0f + 127.0f);
    DLSI_V(vu) bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = bits << 23;
    memcpy(&shifted, &bits, sizeof bits);
    return shifted;
}
/* exp(x), relative error below 2e-7; 0 below -87.3, finite above 88. Own minimax polynomial. */
DLSI_KINLINE DLSI_VF DLSI_V(vexp)(DLSI_VF x) {
    const DLSI_VF magic = DLSI_SET(12582912.0f);
    DLSI_VF in = DLSI_MAX(DLSI_SET(-87.33f), DLSI_MIN(DLSI_SET(88.0f), x)), k, r, p;
    k = (in * DLSI_SET(1.44269504f) + magic) - magic;
    r = DLSI_FMA(k, DLSI_SET(-0.693359375f), in);
    r = DLSI_FMA(k, DLSI_SET(2.12194440e-4f), r);
    p = DLSI_FMA(DLSI_SET(1.3813143e-3f), r, DLSI_SET(8.3694197e-3f));
    p = DLSI_FMA(p, r, DLSI_SET(4.1668456e-2f));
    p = DLSI_FMA(p, r, DLSI_SET(1.6666515e-1f));
    p = DLSI_FMA(p, r, DLSI_SET(4.9999994e-1f));
    p = DLSI_FMA(p * r, r, r) + DLSI_SET(1.0f);
    return DLSI_SEL(DLSI_GT(DLSI_SET(-87.33f), x), DLSI_SET(0.0f), p * DLSI_V(pow2)(k));
}
DLSI_KINLINE DLSI_VF DLSI_V(vabs)(DLSI_VF x) { return DLSI_MAX(DLSI_SET(0.0f) - x, x); }
DLSI_KINLINE DLSI_VF DLSI_V(vtanh)(DLSI_VF x) {
    DLSI_VF a = DLSI_V(vabs)(x), u = x * x, p, big;
    p = DLSI_FMA(DLSI_SET(-5.7170326e-3f), u, DLSI_SET(2.0650575e-2f));
    p = DLSI_FMA(p, u, DLSI_SET(-5.3743493e-2f));
    p = DLSI_FMA(p, u, DLSI_SET(1.3331491e-1f));
    p = DLSI_FMA(p, u, DLSI_SET(-3.3333284e-1f));
    p = DLSI_FMA(p * u, x, x);
    big = DLSI_SET(1.0f) - DLSI_SET(2.0f) / (DLSI_V(vexp)(a + a) + DLSI_SET(1.0f));
    big = DLSI_SEL(DLSI_GT(DLSI_SET(0.0f), x), DLSI_SET(0.0f) - big, big);
    return DLSI_SEL(DLSI_GT(a, DLSI_SET(0.625f)), big, p);
}
/* erf(x), absolute error below 2e-7. Own minimax polynomials of erf and of -log(1 - erf). */
DLSI_KINLINE DLSI_VF DLSI_V(verf)(DLSI_VF x) {
    DLSI_VF a = DLSI_MIN(DLSI_SET(4.0f), DLSI_V(vabs)(x)), u = x * x, p, q;
    p = DLSI_FMA(DLSI_SET(7.8891200e-5f), u, DLSI_SET(-8.0208416e-4f));
    p = DLSI_FMA(p, u, DLSI_SET(5.1895352e-3f));
    p = DLSI_FMA(p, u, DLSI_SET(-2.6854444e-2f));
    p = DLSI_FMA(p, u, DLSI_SET(1.1283600e-1f));
    p = DLSI_FMA(p, u, DLSI_SET(-3.7612626e-1f));
    p = DLSI_FMA(p, u, DLSI_SET(1.1283791f)) * x;
    q = DLSI_FMA(DLSI_SET(-1.8797290e-4f), a, DLSI_SET(2.9640177e-3f));
    q = DLSI_FMA(q, a, DLSI_SET(-2.1906521e-2f));
    q = DLSI_FMA(q, a, DLSI_SET(1.0325630e-1f));
    q = DLSI_FMA(q, a, DLSI_SET(6.3796490e-1f));
    q = DLSI_FMA(q, a, DLSI_SET(1.1272024f));
    q = DLSI_FMA(q, a, DLSI_SET(3.1245436e-4f));
    q = DLSI_SET(1.0f) - DLSI_V(vexp)(DLSI_SET(0.0f) - q);
    q = DLSI_SEL(DLSI_GT(DLSI_SET(0.0f), x), DLSI_SET(0.0f) - q, q);
    return DLSI_SEL(DLSI_GT(a, DLSI_SET(1.0f)), q, p);
}
#endif
DLSI_KINLINE DLSI_VF DLSI_V(vsigmoid)(DLSI_VF x) {
    return DLSI_SET(1.0f) / (DLSI_SET(1.0f) + DLSI_V(vexp)(DLSI_SET(0.0f) - x));
}

/* ---- Reductions in 16 lanes ---- */

DLSI_KINLINE dls_real DLSI_V(lanes_sum)(const DLSI_VF *s) {
    dls_real t[DLSI_LANES];
    int i, step;
    DLSI_UNROLL for (i = 0; i < DLSI_LV; i++) DLSI_ST(t + i * DLSI_VW, s[i]);
    for (step = DLSI_LANES / 2; step > 0; step /= 2)
        for (i = 0; i < step; i++) t[i] = t[i] + t[i + step];
    return t[0];
}
/* The loop of a reduction: the body sees `at` (element) and `left` (elements for LDN) and lane
   vector s[l]; it must add nothing for elements that LDN makes zero. */
#define DLSI_LANES_LOOP(n, ...)                                                                    \
    do {                                                                                           \
        size_t at_ = 0;                                                                            \
        int l;                                                                                     \
        for (; at_ + DLSI_LANES <= (n); at_ += DLSI_LANES) {                                       \
            DLSI_UNROLL for (l = 0; l < DLSI_LV; l++) {                                            \
                const size_t at = at_ + (size_t)(l * DLSI_VW);                                     \
                const int left = DLSI_VW;                                                          \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        }                                                                                          \
        for (l = 0; l < DLSI_LV && at_ + (size_t)(l * DLSI_VW) < (n); l++) {                       \
            const size_t at = at_ + (size_t)(l * DLSI_VW);                                         \
            const int left = DLSI_LEFT(n, at);                                                     \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)
#define DLSI_LANES_ZERO(s)                                                                         \
    do {                                                                                           \
        int l;                                                                                     \
        DLSI_UNROLL for (l = 0; l < DLSI_LV; l++)(s)[l] = DLSI_SET(0.0f);                          \
    } while (0)
/* LDN when it may be a whole vector: keeps the common case free of masks. */
#define DLSI_LDL(p) (left == DLSI_VW ? DLSI_LD(p) : DLSI_LDN(p, left))

DLSI_KFN dls_real DLSI_V(sum)(const dls_real *x, size_t n) {
    DLSI_VF s[DLSI_LV];
    DLSI_LANES_ZERO(s);
    DLSI_LANES_LOOP(n, s[l] = s[l] + DLSI_LDL(x + at));
    return DLSI_V(lanes_sum)(s);
}
DLSI_KFN dls_real DLSI_V(dot)(const dls_real *a, const dls_real *b, size_t n) {
    DLSI_VF s[DLSI_LV];
    DLSI_LANES_ZERO(s);
    DLSI_LANES_LOOP(n, s[l] = DLSI_FMA(DLSI_LDL(a + at), DLSI_LDL(b + at), s[l]));
    return DLSI_V(lanes_sum)(s);
}

/* A loop over n elements, vector by vector: the body sees `at` and `left`. */
#define DLSI_EACH(n, ...)                                                                          \
    do {                                                                                           \
        size_t at = 0;                                                                             \
        for (; at + DLSI_VW <= (n); at += DLSI_VW) {                                               \
            const int left = DLSI_VW;                                                              \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
        if (DLSI_VW > 1 && at < (n)) {                                                             \
            const int left = DLSI_LEFT(n, at);                                                     \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)
#define DLSI_STL(p, v)                                                                             \
    do {                                                                                           \
        if (left == DLSI_VW)                                                                       \
            DLSI_ST(p, v);                                                                         \
        else                                                                                       \
            DLSI_STN(p, v, left);                                                                  \
    } while (0)

/* ---- Matrix product ---- */

/* The tile. a_cols: rows of A are contiguous for one k; else k is contiguous for one row.
   After inlining with constant mr, nv the accumulators are registers. */
DLSI_KINLINE void DLSI_V(tile)(const int mr, const int nv, const bool a_cols, const dlsi_tile *t) {
    DLSI_VF acc[DLSI_MR][DLSI_NV], bv[DLSI_NV], av;
    const int tail = t->cols - (nv - 1) * DLSI_VW;
    const ptrdiff_t a_step = t->a_step, b_step = t->b_step;
    int i, j, e;
    int32_t s, p;
    dls_real *c;
    DLSI_UNROLL for (i = 0; i < mr; i++) {
        DLSI_UNROLL for (j = 0; j < nv; j++) {
            c = t->c + i * t->ldc + j * DLSI_VW;
            acc[i][j] = DLSI_SET(0.0f);
            if (t->cont) acc[i][j] = j == nv - 1 ? DLSI_LDN(c, tail) : DLSI_LD(c);
        }
    }
    for (s = 0; s < t->segs; s++) {
        const dls_real *DLSI_RESTRICT a = t->a + t->seg[s].a, *DLSI_RESTRICT b = t->b + t->seg[s].b;
        p = t->k;
        if (DLSI_VW > 1 && nv == 1 && !a_cols) { /* else rows' addresses cost more than sums */
            for (; p >= 4; p -= 4, a += 4, b += 4 * b_step) {
                DLSI_UNROLL for (e = 0; e < 4; e++) {
                    bv[0] = DLSI_LD(b + e * b_step);
                    DLSI_UNROLL for (i = 0; i < mr; i++) acc[i][0] =
                        DLSI_FMA(DLSI_SET(a[i * a_step + e]), bv[0], acc[i][0]);
                }
            }
        }
        for (; p > 0; p--) {
            DLSI_UNROLL for (j = 0; j < nv; j++) bv[j] =
                a_cols && j == nv - 1 ? DLSI_LDN(b + j * DLSI_VW, tail) : DLSI_LD(b + j * DLSI_VW);
            DLSI_UNROLL for (i = 0; i < mr; i++) {
                av = DLSI_SET(a_cols ? a[i] : a[i * a_step]);
                DLSI_UNROLL for (j = 0; j < nv; j++) acc[i][j] = DLSI_FMA(av, bv[j], acc[i][j]);
            }
            a += a_cols ? a_step : 1;
            b += b_step;
        }
    }
    DLSI_UNROLL for (i = 0; i < mr; i++) {
        DLSI_UNROLL for (j = 0; j < nv; j++) {
            const int n = j == nv - 1 ? tail : DLSI_VW;
            DLSI_VF v = acc[i][j];
            c = t->c + i * t->ldc + j * DLSI_VW;
            if (t->last) {
                if (t->bias != NULL) v = v + DLSI_LDN(t->bias + j * DLSI_VW, n);
                if (t->res != NULL) v = v + DLSI_LDN(t->res + i * t->ldc + j * DLSI_VW, n);
                v = DLSI_MIN(DLSI_SET(t->hi), DLSI_MAX(DLSI_SET(t->lo), v));
            }
            if (j == nv - 1)
                DLSI_STN(c, v, n);
            else
                DLSI_ST(c, v);
        }
    }
}
/* Few rows: eight vectors of columns at once, lest sums wait for themselves. group: from a panel of
   B to the next. */
#if DLSI_MR == 14 || DLSI_NV == 4
#define DLSI_WIDE_ROWS 3
#else
#define DLSI_WIDE_ROWS 1
#endif
DLSI_KINLINE void DLSI_V(tile_wide)(const int mr, const dlsi_tile *t, ptrdiff_t group) {
    DLSI_VF acc[DLSI_WIDE_ROWS][8], bv;
    const dls_real *b = t->b;
    int32_t p;
    int i, j;
    DLSI_UNROLL for (i = 0; i < mr; i++) {
        DLSI_UNROLL for (j = 0; j < 8; j++) acc[i][j] =
            t->cont ? DLSI_LD(t->c + i * t->ldc + j * DLSI_VW) : DLSI_SET(0.0f);
    }
    for (p = 0; p < t->k; p++, b += t->b_step) {
        DLSI_UNROLL for (j = 0; j < 8; j++) {
            bv = DLSI_LD(b + j / DLSI_NV * group + j % DLSI_NV * DLSI_VW);
            DLSI_UNROLL for (i = 0; i < mr; i++) acc[i][j] =
                DLSI_FMA(DLSI_SET(t->a[i * t->a_step + p]), bv, acc[i][j]);
        }
    }
    DLSI_UNROLL for (i = 0; i < mr; i++) {
        DLSI_UNROLL for (j = 0; j < 8; j++) {
            DLSI_VF v = acc[i][j];
            if (t->last) {
                if (t->bias != NULL) v = v + DLSI_LD(t->bias + j * DLSI_VW);
                if (t->res != NULL) v = v + DLSI_LD(t->res + i * t->ldc + j * DLSI_VW);
                v = DLSI_MIN(DLSI_SET(t->hi), DLSI_MAX(DLSI_SET(t->lo), v));
            }
            DLSI_ST(t->c + i * t->ldc + j * DLSI_VW, v);
        }
    }
}
DLSI_KFN void DLSI_V(tile_wides)(int32_t mr, const dlsi_tile *t, ptrdiff_t group) {
    if (mr == 1) DLSI_V(tile_wide)(1, t, group);
    if (mr == 2) DLSI_V(tile_wide)(dlsi_min_i32(2, DLSI_WIDE_ROWS), t, group);
    if (mr == 3) DLSI_V(tile_wide)(DLSI_WIDE_ROWS, t, group);
}
#define DLSI_TILE(mr, nv)                                                                          \
    DLSI_KFN void DLSI_V(tile_rows_##mr##_##nv)(const dlsi_tile *t) {                              \
        DLSI_V(tile)(mr, nv, false, t);                                                            \
    }                                                                                              \
    DLSI_KFN void DLSI_V(tile_cols_##mr##_##nv)(const dlsi_tile *t) {                              \
        DLSI_V(tile)(mr, nv, true, t);                                                             \
    }
#define DLSI_TILE_CASE(way, mr, nv)                                                                \
    case mr * 8 + nv: DLSI_V(tile_##way##_##mr##_##nv)(t); break;
/* clang-format off */
#if DLSI_VW == 1
#define DLSI_TILES(X, w) X(w, 1, 1) X(w, 1, 4) X(w, 4, 1) X(w, 4, 4)
#define DLSI_TILES_MAKE DLSI_TILE(1, 1) DLSI_TILE(1, 4) DLSI_TILE(4, 1) DLSI_TILE(4, 4)
#elif DLSI_NV == 4
#define DLSI_TILES4(X, w, mr) X(w, mr, 1) X(w, mr, 2) X(w, mr, 3) X(w, mr, 4)
#define DLSI_TILES(X, w)                                                                           \
    DLSI_TILES4(X, w, 1) DLSI_TILES4(X, w, 2) DLSI_TILES4(X, w, 3) DLSI_TILES4(X, w, 4)            \
    DLSI_TILES4(X, w, 5) DLSI_TILES4(X, w, 6)
#define DLSI_TILE4(mr) DLSI_TILE(mr, 1) DLSI_TILE(mr, 2) DLSI_TILE(mr, 3) DLSI_TILE(mr, 4)
#define DLSI_TILES_MAKE                                                                            \
    DLSI_TILE4(1) DLSI_TILE4(2) DLSI_TILE4(3) DLSI_TILE4(4) DLSI_TILE4(5) DLSI_TILE4(6)
#else
#define DLSI_TILES6(X, w)                                                                          \
    X(w, 1, 1) X(w, 1, 2) X(w, 2, 1) X(w, 2, 2) X(w, 3, 1) X(w, 3, 2) X(w, 4, 1) X(w, 4, 2)        \
    X(w, 5, 1) X(w, 5, 2) X(w, 6, 1) X(w, 6, 2)
#define DLSI_TILES14(X, w)                                                                         \
    X(w, 7, 1) X(w, 7, 2) X(w, 8, 1) X(w, 8, 2) X(w, 10, 1) X(w, 10, 2) X(w, 12, 1) X(w, 12, 2)    \
    X(w, 14, 1) X(w, 14, 2)
#define DLSI_TILE_X(w, mr, nv) DLSI_TILE(mr, nv)
#if DLSI_MR == 14
#define DLSI_TILES(X, w) DLSI_TILES6(X, w) DLSI_TILES14(X, w)
#else
#define DLSI_TILES(X, w) DLSI_TILES6(X, w)
#endif
#define DLSI_TILES_MAKE DLSI_TILES(DLSI_TILE_X, 0)
#endif
/* clang-format on */
DLSI_TILES_MAKE

DLSI_KFN void DLSI_V(tile_rows)(int32_t mr, int32_t nv, const dlsi_tile *t) {
    switch (mr * 8 + nv) { DLSI_TILES(DLSI_TILE_CASE, rows) default : break; }
}
DLSI_KFN void DLSI_V(tile_cols)(int32_t mr, int32_t nv, const dlsi_tile *t) {
    switch (mr * 8 + nv) { DLSI_TILES(DLSI_TILE_CASE, cols) default : break; }
}
/* Rows of the next tile when `left` remain: balanced, so that no thin tile is left over. There are
   no tiles of 9, 11 and 13 rows, to be quick to compile. */
DLSI_INLINE int32_t DLSI_V(tile_m)(int32_t left) {
    int32_t rows;
    if (DLSI_VW == 1) return left >= DLSI_MR ? DLSI_MR : 1;
    rows = dlsi_ceil_div(left, dlsi_ceil_div(left, DLSI_MR));
    if (rows < 9 || rows % 2 == 0) return rows;
    return left > rows ? rows + 1 : (rows + 1) / 2;
}
/* Vectors of the next tile when `left` columns remain, and the columns it covers. */
DLSI_INLINE int32_t DLSI_V(tile_n)(int32_t left, int32_t *cols) {
    int32_t nv = left >= DLSI_NR ? DLSI_NV : DLSI_VW == 1 ? 1 : dlsi_ceil_div(left, DLSI_VW);
    *cols = dlsi_min_i32(left, nv * DLSI_VW);
    return nv;
}

/* B (k x n by strides, one of them 1) to panels of NR columns, k rows each, zeros past the last. */
DLSI_KFN void DLSI_V(pack)(const dls_real *b, ptrdiff_t b_k, ptrdiff_t b_col, int32_t k, int32_t n,
                           dls_real *dst, ptrdiff_t dst_panel) {
    int32_t j, p, i;
    for (j = 0; j < n; j += DLSI_NR, dst += dst_panel) {
        const int32_t cols = dlsi_min_i32(DLSI_NR, n - j);
        const dls_real *from = b + j * b_col;
        if (b_col == 1 && cols == DLSI_NR) {
            for (p = 0; p < k; p++) {
                DLSI_UNROLL for (i = 0; i < DLSI_NV; i++) {
                    DLSI_PREFETCH(from + (p + 8) * b_k + i * DLSI_VW);
                    DLSI_ST(dst + p * DLSI_NR + i * DLSI_VW, DLSI_LD(from + p * b_k + i * DLSI_VW));
                }
            }
        } else if (b_col == 1) {
            for (p = 0; p < k; p++) {
                for (i = 0; i < DLSI_NR; i += DLSI_VW) {
                    DLSI_VF v = DLSI_SET(0.0f);
                    if (i < cols)
                        v = DLSI_LDN(from + p * b_k + i, (int)dlsi_min_i32(DLSI_VW, cols - i));
                    DLSI_ST(dst + p * DLSI_NR + i, v);
                }
            }
        } else { /* columns of B are rows in memory */
            for (i = 0; i + 4 <= cols; i += 4) {
                for (p = 0; p + 4 <= k; p += 4)
                    dlsi_transpose4(from + i * b_col + p, b_col, dst + p * DLSI_NR + i, DLSI_NR);
                for (; p < k; p++) {
                    int32_t e;
                    for (e = i; e < i + 4; e++) dst[p * DLSI_NR + e] = from[e * b_col + p];
                }
            }
            for (; i < DLSI_NR; i++)
                for (p = 0; p < k; p++)
                    dst[p * DLSI_NR + i] = i < cols ? from[i * b_col + p] : (dls_real)0;
        }
    }
}

/* Rows [0, rows) of A by kc, row 0 at `a`, copied so that tiles find them close together: k by k in
   panels (first[i] is where panel i begins; whole vectors, whose excess the next k overwrites), or
   row by row at a stride that spreads over cache sets. */
DLSI_KFN void DLSI_V(copy_a)(const dlsi_gemm *g, const dls_real *a, const int32_t *first,
                             int32_t panels, int32_t kc, dls_real *to) {
    int32_t i, e, p;
    if (g->a_k == 1) {
        for (i = 0; i < first[panels]; i++, a += g->a_row, to += DLSI_KC + DLSI_VW)
            DLSI_EACH((size_t)kc, DLSI_STL(to + at, DLSI_LDL(a + at)));
        return;
    }
    for (p = 0; p < kc; p++, a += g->a_k) {
        for (i = 0; i < panels; i++) {
            dls_real *row = to + i * ((ptrdiff_t)kc * DLSI_MR + DLSI_VW) + p * DLSI_MR;
            for (e = first[i]; e < first[i + 1]; e += DLSI_VW, row += DLSI_VW) {
                DLSI_PREFETCH(a + e + 6 * g->a_k);
                DLSI_ST(row, DLSI_LDN(a + e, (int)dlsi_min_i32(DLSI_VW, first[panels] - e)));
            }
        }
    }
}

/* A block of B in panels, or where it lies. */
typedef struct DLSI_V(block) {
    const dls_real *panels; /* NULL: direct */
    ptrdiff_t panel;
    int32_t j, n, p, k; /* columns [j, j + n), products [p, p + k) */
} DLSI_V(block);

/* Rows of A from i0, panel by panel, against a block of B. */
DLSI_KFN void DLSI_V(gemm_rows)(const dlsi_gemm *g, const DLSI_V(block) * b, int32_t i0,
                                const int32_t *first, int32_t panels, const dls_real *a_copy) {
    const bool cols_of_a = g->a_k != 1;
    const bool onto = g->res == g->c && g->k > DLSI_KC; /* partial sums will overwrite the addend */
    const dlsi_seg whole = {0, 0};
    dlsi_tile t;
    int32_t i, j, nv;
    DLSI_ZERO(t);
    t.seg = &whole;
    t.segs = 1;
    t.k = b->k;
    t.ldc = g->ldc;
    t.cont = g->cont || onto || b->p > 0;
    t.last = b->p + b->k == g->k;
    t.lo = g->lo;
    t.hi = g->hi;
    t.a_step = cols_of_a ? g->a_k : g->a_row;
    if (a_copy != NULL) t.a_step = cols_of_a ? DLSI_MR : DLSI_KC + DLSI_VW;
    t.b_step = b->panels == NULL ? g->b_k : DLSI_NR;
    for (i = 0; i < panels; i++) {
        const int32_t row = i0 + first[i], mr = first[i + 1] - first[i];
        const bool wide = DLSI_VW > 1 && !cols_of_a && mr <= DLSI_WIDE_ROWS;
        t.a = g->a + row * g->a_row + b->p * g->a_k;
        if (a_copy != NULL)
            t.a = a_copy + (cols_of_a ? i * ((ptrdiff_t)b->k * DLSI_MR + DLSI_VW)
                                      : (ptrdiff_t)first[i] * (DLSI_KC + DLSI_VW));
        for (j = 0; j < b->n; j += t.cols) {
            const ptrdiff_t at = row * g->ldc + b->j + j;
            nv = DLSI_V(tile_n)(b->n - j, &t.cols);
            t.b = b->panels == NULL ? g->b + b->p * g->b_k + b->j + j
                                    : b->panels + j / DLSI_NR * b->panel + j % DLSI_NR;
            t.c = g->c + at;
            t.bias = g->bias != NULL ? g->bias + b->j + j : NULL;
            t.res = g->res != NULL && !onto ? g->res + at : NULL;
            if (wide && b->n - j >= 8 * DLSI_VW) {
                t.cols = 8 * DLSI_VW;
                DLSI_V(tile_wides)(mr, &t, b->panels == NULL ? DLSI_NR : b->panel);
            } else if (cols_of_a) {
                DLSI_V(tile_cols)(mr, nv, &t);
            } else {
                DLSI_V(tile_rows)(mr, nv, &t);
            }
        }
    }
}
DLSI_KFN void DLSI_V(gemm)(const dlsi_gemm *g, dls_real *work) {
    const bool direct = dlsi_gemm_direct(g, DLSI_VW, DLSI_MR);
    dls_real *a_copy = work + dlsi_gemm_pack_reals(g, DLSI_VW, DLSI_MR, DLSI_NR);
    int32_t first[DLSI_PANELS + 1], i, n, panels;
    DLSI_V(block) b;
    DLSI_ZERO(b);
    if (!dlsi_gemm_copies(g, DLSI_VW, DLSI_MR, DLSI_NR)) a_copy = NULL;
    for (b.j = 0; b.j < g->n; b.j += b.n) {
        b.n = dlsi_min_i32(DLSI_NC, g->n - b.j);
        for (b.p = 0; b.p < g->k; b.p += b.k) {
            const dls_real *from = g->b + b.p * g->b_k + b.j * g->b_col;
            b.k = dlsi_min_i32(DLSI_KC, g->k - b.p);
            b.panel = (ptrdiff_t)(g->b_packed ? g->k : b.k) * DLSI_NR;
            b.panels = direct ? NULL : work;
            if (g->b_packed)
                b.panels = g->b + b.j / DLSI_NR * b.panel + (ptrdiff_t)b.p * DLSI_NR;
            else if (!direct)
                DLSI_V(pack)(from, g->b_k, g->b_col, b.k, b.n, work, b.panel);
            for (i = 0; i < g->m; i += n) {
                n = dlsi_min_i32(DLSI_PANELS * DLSI_MR, g->m - i);
                for (panels = 0, first[0] = 0; panels < DLSI_PANELS && first[panels] < n; panels++)
                    first[panels + 1] = first[panels] + DLSI_V(tile_m)(n - first[panels]);
                n = first[panels]; /* fewer when scalar code ends in panels of one row */
                from = g->a + i * g->a_row + b.p * g->a_k;
                if (a_copy != NULL) DLSI_V(copy_a)(g, from, first, panels, b.k, a_copy);
                DLSI_V(gemm_rows)(g, &b, i, first, panels, a_copy);
            }
        }
    }
}

/* ---- Convolution, direct: no copy of the input, borders by leaving taps out ---- */

/* Taps [r0, r1) x [s0, s1) of one tile; `at` is where tap (0, 0) of its first output lies in x. */
DLSI_KFN void DLSI_V(corr_tile)(const dlsi_corr *g, dlsi_tile *t, int32_t mr, int32_t nv,
                                ptrdiff_t at, int32_t r0, int32_t r1, int32_t s0, int32_t s1) {
    dlsi_seg seg[DLSI_SEGS];
    const bool row_at_once = g->dw == 1 && g->x_pix == g->c;
    const int32_t per_row = row_at_once ? 1 : s1 - s0;
    const int32_t total = s1 > s0 ? (r1 - r0) * per_row : 0;
    int32_t done = 0, r = r0, s = s0;
    t->seg = seg;
    t->k = row_at_once ? (s1 - s0) * g->c : g->c;
    t->cont = false;
    do {
        int32_t n = 0;
        while (n < DLSI_SEGS && done + n < total) {
            seg[n].a = at + r * g->dh * g->x_row + s * g->dw * g->x_pix;
            seg[n].b = ((ptrdiff_t)r * g->kw + s) * g->c * g->b_k;
            n++;
            if (row_at_once || ++s == s1) {
                s = s0;
                r++;
            }
        }
        done += n;
        t->segs = n;
        t->last = done == total;
        DLSI_V(tile_rows)(mr, nv, t);
        t->cont = true;
    } while (done < total);
}

/* Output columns [j, j + t->cols) of rows [y0, y1) at pixel columns whose taps are all [s0, s1):
   along the row, or, for a single column at the border, down the rows with equal taps. */
DLSI_KFN void DLSI_V(corr_span)(const dlsi_corr *g, dlsi_tile *t, int32_t nv, int32_t j, int32_t y0,
                                int32_t y1, int32_t x0, int32_t x1, int32_t s0, int32_t s1) {
    const bool down = x1 - x0 == 1;
    int32_t y, y_next, x, mr, r0, r1, i, e;
    for (y = y0; y < y1; y = y_next) {
        dlsi_taps_inside(g->h, g->kh, y, g->sh, g->dh, g->pt, &r0, &r1);
        for (y_next = y + 1; down && y_next < y1; y_next++) {
            dlsi_taps_inside(g->h, g->kh, y_next, g->sh, g->dh, g->pt, &i, &e);
            if (i != r0 || e != r1) break;
        }
        t->a_step = down ? g->sh * g->x_row : g->sw * g->x_pix;
        t->ldc = down ? g->y_row : g->y_pix;
        for (i = 0, e = down ? y_next - y : x1 - x0; i < e; i += mr) {
            const int32_t yi = down ? y + i : y;
            ptrdiff_t to;
            x = down ? x0 : x0 + i;
            mr = DLSI_V(tile_m)(e - i);
            to = yi * g->y_row + x * g->y_pix + j;
            t->c = g->y + to;
            t->res = g->res != NULL ? g->res + to : NULL;
            DLSI_V(corr_tile)
            (g, t, mr, nv,
             (ptrdiff_t)(yi * g->sh - g->pt) * g->x_row + (ptrdiff_t)(x * g->sw - g->pl) * g->x_pix,
             r0, r1, s0, s1);
        }
    }
}

/* Rows [y0, y1) of the output, panels [panel0, panel1) of its channels. */
DLSI_KFN void DLSI_V(corr)(const dlsi_corr *g, int32_t y0, int32_t y1, int32_t panel0,
                           int32_t panel1) {
    int32_t j, x, nv, inner0, inner1, s0, s1, unused;
    const int32_t end = dlsi_min_i32(g->oc, panel1 * DLSI_NR);
    dlsi_tile t;
    DLSI_ZERO(t);
    t.a = g->x;
    t.lo = g->lo;
    t.hi = g->hi;
    t.b_step = g->b_k;
    dlsi_tap_range(g->w, g->ow, 0, g->sw, g->dw, g->pl, &inner0, &unused);
    dlsi_tap_range(g->w, g->ow, g->kw - 1, g->sw, g->dw, g->pl, &unused, &inner1);
    if (inner1 < inner0) inner1 = inner0 = dlsi_min_i32(inner0, g->ow);
    for (j = panel0 * DLSI_NR; j < end; j += t.cols) {
        nv = DLSI_V(tile_n)(end - j, &t.cols);
        t.b = g->b + j / DLSI_NR * g->b_panel + j % DLSI_NR;
        t.bias = g->bias != NULL ? g->bias + j : NULL;
        for (x = 0; x < g->ow; x++) {
            if (x == inner0 && inner1 > inner0) {
                int32_t y;
                for (y = y0; y < y1; y++) /* row by row: a one-column span would run down */
                    DLSI_V(corr_span)(g, &t, nv, j, y, y + 1, inner0, inner1, 0, g->kw);
                x = inner1 - 1;
                continue;
            }
            dlsi_taps_inside(g->w, g->kw, x, g->sw, g->dw, g->pl, &s0, &s1);
            DLSI_V(corr_span)(g, &t, nv, j, y0, y1, x, x + 1, s0, s1);
        }
    }
}

/* dw(r, s, c, o) = sum over rows [y0, y1) and all columns of x(...) y(i, j, o); y holds the
   gradient. dw is kh x kw x c rows of b_k. cont: added to what dw holds. */
DLSI_KFN void DLSI_V(corr_dw)(const dlsi_corr *g, int32_t y0, int32_t y1, dls_real *dw, bool cont) {
    dlsi_seg seg[DLSI_SEGS];
    dlsi_tile t;
    int32_t tap, c, j, mr, nv, first, end, x0, x1, y, n;
    DLSI_ZERO(t);
    t.seg = seg;
    t.a_step = g->sw * g->x_pix;
    t.b_step = g->y_pix;
    t.ldc = g->b_k;
    for (tap = 0; tap < g->kh * g->kw; tap++) {
        const int32_t r = tap / g->kw, s = tap % g->kw;
        dlsi_tap_range(g->h, g->oh, r, g->sh, g->dh, g->pt, &first, &end);
        dlsi_tap_range(g->w, g->ow, s, g->sw, g->dw, g->pl, &x0, &x1);
        first = dlsi_max_i32(first, y0);
        end = dlsi_min_i32(end, y1);
        t.k = x1 - x0;
        y = first;
        t.cont = cont;
        do {
            for (n = 0; n < DLSI_SEGS && y < end; n++, y++) {
                seg[n].a = (ptrdiff_t)(y * g->sh + r * g->dh - g->pt) * g->x_row +
                           (ptrdiff_t)(x0 * g->sw + s * g->dw - g->pl) * g->x_pix;
                seg[n].b = y * g->y_row + x0 * g->y_pix;
            }
            t.segs = n;
            for (c = 0; c < g->c; c += mr) {
                mr = DLSI_V(tile_m)(g->c - c);
                for (j = 0; j < g->oc; j += t.cols) {
                    nv = DLSI_V(tile_n)(g->oc - j, &t.cols);
                    t.a = g->x + c;
                    t.b = g->y + j;
                    t.c = dw + ((ptrdiff_t)tap * g->c + c) * g->b_k + j;
                    DLSI_V(tile_cols)(mr, nv, &t);
                }
            }
            t.cont = true;
        } while (y < end);
    }
}

/* ---- Depthwise convolution: vectors of channels; b is kh x kw x c ---- */

#define DLSI_DWX 7 /* pixels at a time: with a row's weights they leave AVX2 registers to spare */
typedef DLSI_VF DLSI_V(vector);
/* Sums of `pixels` pixels, from output y on: bias, addend, clamp, store. */
DLSI_KINLINE void DLSI_V(depthwise_end)(const int pixels, const dlsi_corr *g,
                                        const DLSI_V(vector) * acc, dls_real *y, int32_t c,
                                        int left) {
    const ptrdiff_t res = g->res != NULL ? g->res - g->y : 0;
    DLSI_VF v;
    int i;
    DLSI_UNROLL for (i = 0; i < pixels; i++) {
        v = acc[i];
        if (g->bias != NULL) v = v + DLSI_LDL(g->bias + c);
        if (g->res != NULL) v = v + DLSI_LDL(y + i * g->y_pix + res);
        v = DLSI_MIN(DLSI_SET(g->hi), DLSI_MAX(DLSI_SET(g->lo), v));
        DLSI_STL(y + i * g->y_pix, v);
    }
}
/* Any filter, pixels that have the same taps [taps[0], taps[1]) x [taps[2], taps[3]). x: where tap
   (0, 0) of the first pixel lies from g->x, perhaps before it. */
DLSI_KINLINE void DLSI_V(depthwise_run)(const int pixels, const dlsi_corr *g, ptrdiff_t x,
                                        dls_real *y, int32_t c, int left, const int32_t *taps) {
    DLSI_VF acc[DLSI_DWX], w;
    int32_t r, s;
    int i;
    DLSI_UNROLL for (i = 0; i < pixels; i++) acc[i] = DLSI_SET(0.0f);
    for (r = taps[0]; r < taps[1]; r++) {
        for (s = taps[2]; s < taps[3]; s++) {
            const dls_real *from = g->x + (x + r * g->dh * g->x_row + s * g->dw * g->x_pix);
            w = DLSI_LDL(g->b + ((ptrdiff_t)r * g->kw + s) * g->b_k + c);
            DLSI_UNROLL for (i = 0; i < pixels; i++) acc[i] =
                DLSI_FMA(DLSI_LDL(from + i * g->sw * g->x_pix), w, acc[i]);
        }
    }
    DLSI_V(depthwise_end)(pixels, g, acc, y, c, left);
}
/* Filters of three columns, whole vectors. The first pixel may lack the left tap (edge & 1), the
   last one the right tap (edge & 2). */
DLSI_KINLINE void DLSI_V(depthwise_3)(const int pixels, const dlsi_corr *g, ptrdiff_t x,
                                      dls_real *y, int32_t c, const int32_t *taps, int edge) {
    const ptrdiff_t step = g->sw * g->x_pix, tap = g->dw * g->x_pix;
    const int left = DLSI_VW;
    DLSI_VF acc[DLSI_DWX], w0, w1, w2;
    int32_t r;
    int i;
    DLSI_UNROLL for (i = 0; i < pixels; i++) acc[i] = DLSI_SET(0.0f);
    for (r = taps[0]; r < taps[1]; r++) {
        const dls_real *from = g->x + (x + r * g->dh * g->x_row);
        const dls_real *b = g->b + (ptrdiff_t)r * 3 * g->b_k + c;
        w0 = DLSI_LDL(b);
        w1 = DLSI_LDL(b + g->b_k);
        w2 = DLSI_LDL(b + 2 * g->b_k);
        if ((edge & 1) == 0) acc[0] = DLSI_FMA(DLSI_LDL(from), w0, acc[0]);
        DLSI_UNROLL for (i = 1; i < pixels; i++) acc[i] =
            DLSI_FMA(DLSI_LDL(from + i * step), w0, acc[i]);
        DLSI_UNROLL for (i = 0; i < pixels; i++) acc[i] =
            DLSI_FMA(DLSI_LDL(from + i * step + tap), w1, acc[i]);
        DLSI_UNROLL for (i = 0; i < pixels - 1; i++) acc[i] =
            DLSI_FMA(DLSI_LDL(from + i * step + 2 * tap), w2, acc[i]);
        if ((edge & 2) == 0) acc[i] = DLSI_FMA(DLSI_LDL(from + i * step + 2 * tap), w2, acc[i]);
    }
    DLSI_V(depthwise_end)(pixels, g, acc, y, c, left);
}
/* A row, by depthwise_3. */
DLSI_KINLINE void DLSI_V(depthwise_row_3)(const dlsi_corr *g, ptrdiff_t x, dls_real *y, int32_t c,
                                          const int32_t *taps, int edges) {
    int32_t i, n;
    for (i = 0; i < g->ow; i += n) {
        const int32_t left = g->ow - i;
        const ptrdiff_t at = x + (ptrdiff_t)i * g->sw * g->x_pix;
        dls_real *to = y + (ptrdiff_t)i * g->y_pix;
        int edge = i == 0 ? edges & 1 : 0;
        n = left >= DLSI_DWX ? DLSI_DWX : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        if (n == left) edge |= edges & 2;
        if (n == 1) DLSI_V(depthwise_3)(1, g, at, to, c, taps, edge);
        if (n == 2) DLSI_V(depthwise_3)(2, g, at, to, c, taps, edge);
        if (n == 4) DLSI_V(depthwise_3)(4, g, at, to, c, taps, edge);
        if (n == DLSI_DWX) DLSI_V(depthwise_3)(DLSI_DWX, g, at, to, c, taps, edge);
    }
}
/* A row of any filter: blocks where all taps are inside, single pixels at the edges. */
DLSI_KINLINE void DLSI_V(depthwise_row)(const dlsi_corr *g, ptrdiff_t x, dls_real *y, int32_t c,
                                        int left, int32_t *taps, int32_t inner0, int32_t inner1) {
    int32_t i, n;
    for (i = 0; i < g->ow; i += n) {
        const ptrdiff_t at = x + (ptrdiff_t)i * g->sw * g->x_pix;
        dls_real *to = y + (ptrdiff_t)i * g->y_pix;
        n = i >= inner0 && i + DLSI_DWX <= inner1 ? DLSI_DWX : 1;
        dlsi_taps_inside(g->w, g->kw, i, g->sw, g->dw, g->pl, &taps[2], &taps[3]);
        if (n == 1)
            DLSI_V(depthwise_run)(1, g, at, to, c, left, taps);
        else if (left == DLSI_VW)
            DLSI_V(depthwise_run)(DLSI_DWX, g, at, to, c, DLSI_VW, taps);
        else
            DLSI_V(depthwise_run)(DLSI_DWX, g, at, to, c, left, taps);
    }
}
/* Channels outermost, so that the rows of x that a row of y needs stay in the first cache. */
DLSI_KFN void DLSI_V(depthwise)(const dlsi_corr *g, int32_t y0, int32_t y1) {
    int32_t y, c, taps[4], inner0, inner1, first, last, unused;
    bool three;
    dlsi_tap_range(g->w, g->ow, 0, g->sw, g->dw, g->pl, &inner0, &unused);
    dlsi_tap_range(g->w, g->ow, g->kw - 1, g->sw, g->dw, g->pl, &unused, &inner1);
    dlsi_taps_inside(g->w, g->kw, 0, g->sw, g->dw, g->pl, &first, &unused);
    dlsi_taps_inside(g->w, g->kw, g->ow - 1, g->sw, g->dw, g->pl, &unused, &last);
    three =
        !DLSI_SMALL && g->kw == 3 && inner0 <= 1 && inner1 >= g->ow - 1 && first <= 1 && last >= 2;
    for (c = 0; c < g->c; c += DLSI_VW) {
        const int left = DLSI_LEFT((size_t)g->c, (size_t)c);
        for (y = y0; y < y1; y++) {
            const ptrdiff_t x =
                (ptrdiff_t)(y * g->sh - g->pt) * g->x_row - (ptrdiff_t)g->pl * g->x_pix + c;
            dls_real *to = g->y + y * g->y_row + c;
            dlsi_taps_inside(g->h, g->kh, y, g->sh, g->dh, g->pt, &taps[0], &taps[1]);
            if (three && left == DLSI_VW)
                DLSI_V(depthwise_row_3)(g, x, to, c, taps, (first > 0) | (last < 3) << 1);
            else
                DLSI_V(depthwise_row)(g, x, to, c, left, taps, inner0, inner1);
        }
    }
}
/* dw(r, s, c) += sum over rows [y0, y1) of x(...) y(i, j, c); y holds the gradient. */
DLSI_KFN void DLSI_V(depthwise_dw)(const dlsi_corr *g, int32_t y0, int32_t y1, dls_real *dw) {
    int32_t tap, y, x, c, first, end, x0, x1;
    for (tap = 0; tap < g->kh * g->kw; tap++) {
        const int32_t r = tap / g->kw, s = tap % g->kw;
        dlsi_tap_range(g->h, g->oh, r, g->sh, g->dh, g->pt, &first, &end);
        dlsi_tap_range(g->w, g->ow, s, g->sw, g->dw, g->pl, &x0, &x1);
        first = dlsi_max_i32(first, y0);
        end = dlsi_min_i32(end, y1);
        for (c = 0; c < g->c; c += 4 * DLSI_VW) {
            DLSI_VF acc[4];
            int i, left[4];
            DLSI_UNROLL for (i = 0; i < 4; i++) {
                const int32_t n = g->c - c - i * DLSI_VW;
                left[i] = n < 0 ? 0 : n < DLSI_VW ? (int)n : DLSI_VW;
                acc[i] = DLSI_SET(0.0f);
                if (left[i] > 0) acc[i] = DLSI_LDN(dw + tap * g->b_k + c + i * DLSI_VW, left[i]);
            }
            for (y = first; y < end; y++) {
                const dls_real *from =
                    g->x + ((ptrdiff_t)(y * g->sh + r * g->dh - g->pt) * g->x_row +
                            (ptrdiff_t)(x0 * g->sw + s * g->dw - g->pl) * g->x_pix + c);
                const dls_real *dy = g->y + y * g->y_row + x0 * g->y_pix + c;
                for (x = x0; x < x1; x++, from += g->sw * g->x_pix, dy += g->y_pix) {
                    DLSI_UNROLL for (i = 0; i < 4; i++) {
                        if (left[i] == 0) continue;
                        acc[i] = DLSI_FMA(DLSI_LDN(from + i * DLSI_VW, left[i]),
                                          DLSI_LDN(dy + i * DLSI_VW, left[i]), acc[i]);
                    }
                }
            }
            for (i = 0; i < 4; i++)
                if (left[i] > 0) DLSI_STN(dw + tap * g->b_k + c + i * DLSI_VW, acc[i], left[i]);
        }
    }
}

/* ---- Winograd F(4x4, 3x3): 36 products where 16 outputs of 9 taps are 144. V, M: [36][tiles][c]
   ---- */

#if DLSI_FAST
/* In place on six vectors `step` apart: B^T d. */
DLSI_KINLINE void DLSI_V(wino_in)(DLSI_VF *d, const int step) {
    const DLSI_VF two = DLSI_SET(2.0f), four = DLSI_SET(4.0f), five = DLSI_SET(5.0f);
    const DLSI_VF d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
                  d5 = d[5 * step];
    const DLSI_VF a = d4 - four * d2, b = d3 - four * d1, e = d4 - d2, f = two * (d3 - d1);
    d[0] = DLSI_FMA(four, d0, d4 - five * d2);
    d[step] = a + b;
    d[2 * step] = a - b;
    d[3 * step] = e + f;
    d[4 * step] = e - f;
    d[5 * step] = DLSI_FMA(four, d1, d5 - five * d3);
}
/* Six to four: A^T m. */
DLSI_KINLINE void DLSI_V(wino_out)(DLSI_VF *m, const int step) {
    const DLSI_VF p = m[step] + m[2 * step], q = m[step] - m[2 * step];
    const DLSI_VF s = m[3 * step] + m[4 * step], t = m[3 * step] - m[4 * step];
    m[0] = m[0] + p + s;
    m[step] = DLSI_FMA(DLSI_SET(2.0f), t, q);
    m[2 * step] = DLSI_FMA(DLSI_SET(4.0f), s, p);
    m[3 * step] = DLSI_FMA(DLSI_SET(8.0f), t, q) + m[5 * step];
}
/* Four to six: A y. */
DLSI_KINLINE void DLSI_V(wino_dy)(DLSI_VF *y, const int step) {
    const DLSI_VF y0 = y[0], y1 = y[step], y2 = y[2 * step], y3 = y[3 * step];
    const DLSI_VF even = y0 + y2, odd = y1 + y3, even2 = DLSI_FMA(DLSI_SET(4.0f), y2, y0);
    const DLSI_VF odd2 = DLSI_SET(2.0f) * DLSI_FMA(DLSI_SET(4.0f), y3, y1);
    y[step] = even + odd;
    y[2 * step] = even - odd;
    y[3 * step] = even2 + odd2;
    y[4 * step] = even2 - odd2;
    y[5 * step] = y3;
}
/* Three to six: G g. */
DLSI_KINLINE void DLSI_V(wino_w)(DLSI_VF *g, const int step) {
    const DLSI_VF g0 = g[0], g1 = g[step], g2 = g[2 * step], sixth = DLSI_SET(1.0f / 6.0f);
    const DLSI_VF a = g0 + g2, b = DLSI_FMA(DLSI_SET(0.25f), g0, g2);
    g[0] = DLSI_SET(0.25f) * g0;
    g[step] = (DLSI_SET(0.0f) - sixth) * (a + g1);
    g[2 * step] = sixth * (g1 - a);
    g[3 * step] = sixth * DLSI_FMA(DLSI_SET(0.5f), g1, b);
    g[4 * step] = sixth * (b - DLSI_SET(0.5f) * g1);
    g[5 * step] = g2;
}
/* Six to three: G^T u. */
DLSI_KINLINE void DLSI_V(wino_dw)(DLSI_VF *u, const int step) {
    const DLSI_VF p = u[step] + u[2 * step], q = u[2 * step] - u[step];
    const DLSI_VF s = u[3 * step] + u[4 * step], t = u[3 * step] - u[4 * step];
    const DLSI_VF sixth = DLSI_SET(1.0f / 6.0f);
    u[0] =
        DLSI_FMA(DLSI_SET(0.25f), u[0], sixth * DLSI_FMA(DLSI_SET(0.25f), s, DLSI_SET(0.0f) - p));
    u[step] = sixth * DLSI_FMA(DLSI_SET(0.5f), t, q);
    u[2 * step] = DLSI_FMA(sixth, s - p, u[5 * step]);
}

/* size x size pixels of c channels at (y0, x0) of an image, zeros outside, into d[6 * r + s]. */
DLSI_KINLINE void DLSI_V(wino_load)(const dls_real *x, int32_t h, int32_t w, int32_t c, int32_t y0,
                                    int32_t x0, const int size, int32_t c0, int left, DLSI_VF *d) {
    const bool inside = y0 >= 0 && x0 >= 0 && y0 + size <= h && x0 + size <= w && left == DLSI_VW;
    int r, s;
    if (inside) {
        const dls_real *p = x + ((ptrdiff_t)y0 * w + x0) * c + c0;
        DLSI_UNROLL for (r = 0; r < size; r++) {
            DLSI_UNROLL for (s = 0; s < size; s++) d[6 * r + s] =
                DLSI_LD(p + ((ptrdiff_t)r * w + s) * c);
        }
        return;
    }
    for (r = 0; r < size; r++) {
        for (s = 0; s < size; s++) {
            const int32_t yy = y0 + r, xx = x0 + s;
            d[6 * r + s] = DLSI_SET(0.0f);
            if (yy >= 0 && yy < h && xx >= 0 && xx < w)
                d[6 * r + s] = DLSI_LDN(x + ((ptrdiff_t)yy * w + xx) * c + c0, left);
        }
    }
}
DLSI_KFN void DLSI_V(wino_gather)(const dlsi_wino *g, int32_t t0, int32_t t1, dls_real *v) {
    const ptrdiff_t point = (ptrdiff_t)(t1 - t0) * g->c;
    int32_t t, c;
    int i, j;
    for (t = t0; t < t1; t++) {
        const int32_t image = t / (g->th * g->tw), ty = t / g->tw % g->th, tx = t % g->tw;
        const dls_real *x = g->x + (ptrdiff_t)image * g->h * g->w * g->c;
        for (c = 0; c < g->c; c += DLSI_VW) {
            const int left = DLSI_LEFT((size_t)g->c, (size_t)c);
            dls_real *to = v + (ptrdiff_t)(t - t0) * g->c + c;
            DLSI_VF d[36];
            DLSI_V(wino_load)(x, g->h, g->w, g->c, ty * 4 - g->pt, tx * 4 - g->pl, 6, c, left, d);
            DLSI_UNROLL for (j = 0; j < 6; j++) DLSI_V(wino_in)(d + j, 6);
            DLSI_UNROLL for (i = 0; i < 6; i++) {
                DLSI_V(wino_in)(d + 6 * i, 1);
                DLSI_UNROLL for (j = 0; j < 6; j++)
                    DLSI_STL(to + (6 * i + j) * point, d[6 * i + j]);
            }
        }
    }
}
DLSI_KFN void DLSI_V(wino_gather_dy)(const dlsi_wino *g, int32_t t0, int32_t t1, dls_real *v) {
    const ptrdiff_t point = (ptrdiff_t)(t1 - t0) * g->oc;
    int32_t t, c;
    int i, j;
    for (t = t0; t < t1; t++) {
        const int32_t image = t / (g->th * g->tw), ty = t / g->tw % g->th, tx = t % g->tw;
        const dls_real *y = g->y + (ptrdiff_t)image * g->oh * g->ow * g->oc;
        for (c = 0; c < g->oc; c += DLSI_VW) {
            const int left = DLSI_LEFT((size_t)g->oc, (size_t)c);
            dls_real *to = v + (ptrdiff_t)(t - t0) * g->oc + c;
            DLSI_VF d[36];
            DLSI_V(wino_load)(y, g->oh, g->ow, g->oc, ty * 4, tx * 4, 4, c, left, d);
            DLSI_UNROLL for (j = 0; j < 4; j++) DLSI_V(wino_dy)(d + j, 6);
            DLSI_UNROLL for (i = 0; i < 6; i++) {
                DLSI_V(wino_dy)(d + 6 * i, 1);
                DLSI_UNROLL for (j = 0; j < 6; j++)
                    DLSI_STL(to + (6 * i + j) * point, d[6 * i + j]);
            }
        }
    }
}
DLSI_KFN void DLSI_V(wino_scatter)(const dlsi_wino *g, int32_t t0, int32_t t1, const dls_real *m) {
    const ptrdiff_t point = (ptrdiff_t)(t1 - t0) * g->oc;
    int32_t t, c;
    int i, j;
    for (t = t0; t < t1; t++) {
        const int32_t image = t / (g->th * g->tw), ty = t / g->tw % g->th, tx = t % g->tw;
        const ptrdiff_t base = (((ptrdiff_t)image * g->oh + ty * 4) * g->ow + tx * 4) * g->oc;
        const int rows = (int)dlsi_min_i32(4, g->oh - ty * 4),
                  cols = (int)dlsi_min_i32(4, g->ow - tx * 4);
        for (c = 0; c < g->oc; c += DLSI_VW) {
            const int left = DLSI_LEFT((size_t)g->oc, (size_t)c);
            const dls_real *from = m + (ptrdiff_t)(t - t0) * g->oc + c;
            const DLSI_VF lo = DLSI_SET(g->lo), hi = DLSI_SET(g->hi);
            DLSI_VF d[36], bias = DLSI_SET(0.0f);
            if (g->bias != NULL) bias = DLSI_LDL(g->bias + c);
            DLSI_UNROLL for (j = 0; j < 6; j++) {
                DLSI_UNROLL for (i = 0; i < 6; i++) d[6 * i + j] =
                    DLSI_LDL(from + (6 * i + j) * point);
                DLSI_V(wino_out)(d + j, 6);
            }
            for (i = 0; i < rows; i++) {
                DLSI_V(wino_out)(d + 6 * i, 1);
                for (j = 0; j < cols; j++) {
                    const ptrdiff_t at = base + ((ptrdiff_t)i * g->ow + j) * g->oc + c;
                    DLSI_VF y = d[6 * i + j] + bias;
                    if (g->res != NULL) y = y + DLSI_LDL(g->res + at);
                    y = DLSI_MIN(hi, DLSI_MAX(lo, y));
                    DLSI_STL(g->y + at, y);
                }
            }
        }
    }
}
/* Filters w(tap, p, j) at w + tap, b_k, b_col strides to dst: 36 packed matrices k x n. */
DLSI_KFN void DLSI_V(wino_filter)(const dls_real *w, ptrdiff_t tap, ptrdiff_t b_k, ptrdiff_t b_col,
                                  bool flip, int32_t k, int32_t n, dls_real *dst) {
    const ptrdiff_t point = (ptrdiff_t)dlsi_ceil_div(n, DLSI_NR) * k * DLSI_NR;
    int32_t p, j;
    int i, e;
    for (p = 0; p < k; p++) {
        for (j = 0; j < n; j += DLSI_VW) {
            const int left = DLSI_LEFT((size_t)n, (size_t)j);
            dls_real *to = dst + ((ptrdiff_t)(j / DLSI_NR) * k + p) * DLSI_NR + j % DLSI_NR;
            DLSI_VF g[36];
            for (i = 0; i < 9; i++) {
                const dls_real *from = w + (flip ? 8 - i : i) * tap + p * b_k + j * b_col;
                dls_real t[DLSI_VW];
                if (b_col == 1) {
                    g[i / 3 * 6 + i % 3] = DLSI_LDN(from, left);
                    continue;
                }
                for (e = 0; e < left; e++) t[e] = from[e * b_col];
                g[i / 3 * 6 + i % 3] = DLSI_LDN(t, left);
            }
            DLSI_UNROLL for (i = 0; i < 3; i++) DLSI_V(wino_w)(g + i, 6);
            DLSI_UNROLL for (i = 0; i < 6; i++) DLSI_V(wino_w)(g + 6 * i, 1);
            DLSI_UNROLL for (i = 0; i < 36; i++) DLSI_ST(to + i * point, g[i]);
            if (j + DLSI_VW >= n && (j / DLSI_VW + 1) % DLSI_NV != 0) /* zeros to the panel's end */
                for (e = (int)(j % DLSI_NR) + DLSI_VW; e < DLSI_NR; e += DLSI_VW)
                    for (i = 0; i < 36; i++)
                        DLSI_ST(to - j % DLSI_NR + e + i * point, DLSI_SET(0.0f));
        }
    }
}
/* u: [36][c][oc] to dw: [9][c][oc]. */
DLSI_KFN void DLSI_V(wino_filter_grad)(const dls_real *u, int32_t c, int32_t oc, dls_real *dw,
                                       bool add) {
    const size_t n = (size_t)c * (size_t)oc;
    size_t at;
    int i, j;
    for (at = 0; at < n; at += DLSI_VW) {
        const int left = DLSI_LEFT(n, at);
        DLSI_VF d[36];
        DLSI_UNROLL for (j = 0; j < 6; j++) {
            DLSI_UNROLL for (i = 0; i < 6; i++) d[6 * i + j] =
                DLSI_LDL(u + (size_t)(6 * i + j) * n + at);
            DLSI_V(wino_dw)(d + j, 6);
        }
        DLSI_UNROLL for (i = 0; i < 3; i++) {
            DLSI_V(wino_dw)(d + 6 * i, 1);
            DLSI_UNROLL for (j = 0; j < 3; j++) {
                dls_real *to = dw + (size_t)(3 * i + j) * n + at;
                DLSI_VF v = d[6 * i + j];
                if (add) v = v + DLSI_LDL(to);
                DLSI_STL(to, v);
            }
        }
    }
}
#endif

/* ---- Elementwise ---- */

DLSI_KINLINE DLSI_VF DLSI_V(act1)(const dls_act act, DLSI_VF slope, DLSI_VF x) {
    const DLSI_VF zero = DLSI_SET(0.0f), one = DLSI_SET(1.0f), half = DLSI_SET(0.5f);
    switch (act) {
    case DLS_ACT_RELU: return DLSI_MAX(zero, x);
    case DLS_ACT_RELU6: return DLSI_MIN(DLSI_SET(6.0f), DLSI_MAX(zero, x));
    case DLS_ACT_LEAKY: return DLSI_SEL(DLSI_GT(x, zero), x, slope * x);
    case DLS_ACT_SIGMOID: return DLSI_V(vsigmoid)(x);
    case DLS_ACT_TANH: return DLSI_V(vtanh)(x);
    case DLS_ACT_SILU: return x * DLSI_V(vsigmoid)(x);
    case DLS_ACT_GELU:
        return half * x * (one + DLSI_V(verf)(x * DLSI_SET((dls_real)0.70710678118654752)));
    case DLS_ACT_GELU_TANH:
        return half * x *
               (one + DLSI_V(vtanh)(DLSI_SET((dls_real)0.79788456080286536) *
                                    (x + DLSI_SET((dls_real)0.044715) * x * x * x)));
    case DLS_ACT_HSWISH:
        return x * (DLSI_MIN(DLSI_SET(6.0f), DLSI_MAX(zero, x + DLSI_SET(3.0f))) / DLSI_SET(6.0f));
    case DLS_ACT_HSIGMOID:
        return DLSI_MIN(DLSI_SET(6.0f), DLSI_MAX(zero, x + DLSI_SET(3.0f))) / DLSI_SET(6.0f);
    case DLS_ACT_NONE:
    case DLS_ACT_COUNT: break;
    }
    return x;
}
/* dy f'(x); v is y where dlsi_act_from_y, else x. */
DLSI_KINLINE DLSI_VF DLSI_V(act_grad1)(const dls_act act, DLSI_VF slope, DLSI_VF v, DLSI_VF dy) {
    const DLSI_VF zero = DLSI_SET(0.0f), one = DLSI_SET(1.0f), half = DLSI_SET(0.5f);
    const DLSI_VF three = DLSI_SET(3.0f);
    DLSI_VF s, t, u;
    switch (act) {
    case DLS_ACT_RELU: return DLSI_SEL(DLSI_GT(v, zero), dy, zero);
    case DLS_ACT_RELU6:
        return DLSI_SEL(DLSI_AND(DLSI_GT(v, zero), DLSI_GT(DLSI_SET(6.0f), v)), dy, zero);
    case DLS_ACT_LEAKY: return DLSI_SEL(DLSI_GT(v, zero), dy, slope * dy);
    case DLS_ACT_SIGMOID: return dy * v * (one - v);
    case DLS_ACT_TANH: return dy * (one - v * v);
    case DLS_ACT_SILU: s = DLSI_V(vsigmoid)(v); return dy * (s + v * s * (one - s));
    case DLS_ACT_GELU:
        s = half * (one + DLSI_V(verf)(v * DLSI_SET((dls_real)0.70710678118654752)));
        t = DLSI_V(vexp)(v * v * DLSI_SET(-0.5f)) * DLSI_SET((dls_real)0.39894228040143268);
        return dy * (s + v * t);
    case DLS_ACT_GELU_TANH:
        u = DLSI_SET((dls_real)0.044715) * v * v;
        t = DLSI_V(vtanh)(DLSI_SET((dls_real)0.79788456080286536) * (v + u * v));
        s = half * v * (one - t * t) * DLSI_SET((dls_real)0.79788456080286536) * (one + three * u);
        return dy * (half * (one + t) + s);
    case DLS_ACT_HSWISH:
        s = DLSI_SEL(DLSI_GT(v, three), one, (v + v + three) / DLSI_SET(6.0f));
        return dy * DLSI_SEL(DLSI_GT(zero - three, v), zero, s);
    case DLS_ACT_HSIGMOID:
        return DLSI_SEL(DLSI_AND(DLSI_GT(v, zero - three), DLSI_GT(three, v)), dy / DLSI_SET(6.0f),
                        zero);
    case DLS_ACT_NONE:
    case DLS_ACT_COUNT: break;
    }
    return dy;
}
#define DLSI_ACT_CASE(kind)                                                                        \
    case kind: DLSI_EACH(n, DLSI_STL(y + at, DLSI_V(act1)(kind, s, DLSI_LDL(x + at)))); break;
/* clang-format off */
#define DLSI_ACTS(X)                                                                               \
    X(DLS_ACT_NONE) X(DLS_ACT_RELU) X(DLS_ACT_RELU6) X(DLS_ACT_LEAKY) X(DLS_ACT_SIGMOID)           \
    X(DLS_ACT_TANH) X(DLS_ACT_SILU) X(DLS_ACT_GELU) X(DLS_ACT_GELU_TANH) X(DLS_ACT_HSWISH)         \
    X(DLS_ACT_HSIGMOID)
/* clang-format on */
DLSI_KFN void DLSI_V(act)(dls_act act, float slope, const dls_real *x, dls_real *y, size_t n) {
    const DLSI_VF s = DLSI_SET(slope);
    switch (act) { DLSI_ACTS(DLSI_ACT_CASE) case DLS_ACT_COUNT : break; }
}
#define DLSI_ACT_GRAD_CASE(kind)                                                                   \
    case kind:                                                                                     \
        DLSI_EACH(n, {                                                                             \
            DLSI_VF d = DLSI_V(act_grad1)(kind, s, DLSI_LDL(ref + at), DLSI_LDL(dy + at));         \
            if (add) d = d + DLSI_LDL(dx + at);                                                    \
            DLSI_STL(dx + at, d);                                                                  \
        });                                                                                        \
        break;
DLSI_KFN void DLSI_V(act_grad)(dls_act act, float slope, const dls_real *ref, const dls_real *dy,
                               dls_real *dx, size_t n, bool add) {
    const DLSI_VF s = DLSI_SET(slope);
    switch (act) { DLSI_ACTS(DLSI_ACT_GRAD_CASE) case DLS_ACT_COUNT : break; }
}
DLSI_KFN void DLSI_V(add)(const dls_real *a, const dls_real *b, dls_real *y, size_t n, dls_real lo,
                          dls_real hi) {
    const DLSI_VF low = DLSI_SET(lo), high = DLSI_SET(hi);
    DLSI_EACH(n,
              DLSI_STL(y + at, DLSI_MIN(high, DLSI_MAX(low, DLSI_LDL(a + at) + DLSI_LDL(b + at)))));
}
DLSI_KFN void DLSI_V(mul)(const dls_real *a, const dls_real *b, dls_real *y, size_t n, bool add) {
    DLSI_EACH(n, {
        DLSI_VF v = DLSI_LDL(a + at) * DLSI_LDL(b + at);
        if (add) v = v + DLSI_LDL(y + at);
        DLSI_STL(y + at, v);
    });
}
/* y = a x + b y; b 0: y is not read. */
DLSI_KFN void DLSI_V(axpby)(dls_real a, const dls_real *x, dls_real b, dls_real *y, size_t n) {
    const DLSI_VF va = DLSI_SET(a), vb = DLSI_SET(b);
    if (b == (dls_real)0) {
        DLSI_EACH(n, DLSI_STL(y + at, va * DLSI_LDL(x + at)));
    } else if (b == (dls_real)1) {
        DLSI_EACH(n, DLSI_STL(y + at, DLSI_FMA(va, DLSI_LDL(x + at), DLSI_LDL(y + at))));
    } else {
        DLSI_EACH(n, DLSI_STL(y + at, DLSI_FMA(va, DLSI_LDL(x + at), vb * DLSI_LDL(y + at))));
    }
}
/* y = x scale where the generator's u32 at (seed, at0 + i) >= threshold, else 0. */
DLSI_KFN void DLSI_V(dropout)(const dls_real *x, dls_real *y, size_t n, uint64_t seed, uint32_t at0,
                              uint32_t threshold, dls_real scale, bool add) {
    const uint32_t k0 = (uint32_t)(seed & 0xFFFFFFFFu), k1 = (uint32_t)(seed >> 32);
    const DLSI_VF sc = DLSI_SET(scale);
    DLSI_EACH(n, {
        DLSI_V(vu) r = DLSI_V(vu_iota)(at0 + (uint32_t)at) ^ k0;
        DLSI_VF v;
        int round;
        for (round = 0; round < 2; round++) { /* dls_rand_at, on a vector */
            r ^= r >> 16;
            r *= 0x7feb352du;
            r ^= r >> 15;
            r *= 0x846ca68bu;
            r ^= r >> 16;
            r += round == 0 ? k1 : 0u;
        }
        v = DLSI_V(keep)(r, threshold, DLSI_LDL(x + at) * sc);
        if (add) v = v + DLSI_LDL(y + at);
        DLSI_STL(y + at, v);
    });
}

/* ---- Columns: sums over rows run in four interleaved accumulators, row i in i % 4 ---- */

#define DLSI_COLS(...)                                                                             \
    do {                                                                                           \
        int32_t col;                                                                               \
        for (col = 0; col < c; col += DLSI_VW) {                                                   \
            const int left = DLSI_LEFT((size_t)c, (size_t)col);                                    \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)
#define DLSI_SUM4(s) (((s)[0] + (s)[2]) + ((s)[1] + (s)[3]))
/* The body for each row, which it steps over; e, the row % 4, is a constant in it, since sums that
   a variable selects would live in memory. */
#define DLSI_ROWS4(...)                                                                            \
    do {                                                                                           \
        size_t row;                                                                                \
        int e;                                                                                     \
        for (row = 0; row + 4 <= rows; row += 4) {                                                 \
            DLSI_UNROLL for (e = 0; e < 4; e++) { __VA_ARGS__; }                                   \
        }                                                                                          \
        DLSI_UNROLL for (e = 0; e < 3; e++) {                                                      \
            if (row + (size_t)e < rows) {                                                          \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

DLSI_KFN void DLSI_V(col_sum)(const dls_real *x, size_t rows, int32_t c, dls_real *sum, bool add) {
    DLSI_COLS({
        const DLSI_VF zero = DLSI_SET(0.0f);
        DLSI_VF s[4] = {zero, zero, zero, zero};
        const dls_real *p = x + col;
        DLSI_ROWS4(s[e] = s[e] + DLSI_LDL(p); p += c);
        s[0] = DLSI_SUM4(s);
        if (add) s[0] = s[0] + DLSI_LDL(sum + col);
        DLSI_STL(sum + col, s[0]);
    });
}
/* Sums of x - shift and of its square. */
DLSI_KFN void DLSI_V(col_stats)(const dls_real *x, size_t rows, int32_t c, const dls_real *shift,
                                dls_real *sum, dls_real *squares) {
    DLSI_COLS({
        const DLSI_VF zero = DLSI_SET(0.0f);
        const DLSI_VF k = DLSI_LDL(shift + col);
        DLSI_VF s[4] = {zero, zero, zero, zero};
        DLSI_VF q[4] = {zero, zero, zero, zero};
        const dls_real *p = x + col;
        DLSI_ROWS4(const DLSI_VF d = DLSI_LDL(p) - k; s[e] = s[e] + d; q[e] = DLSI_FMA(d, d, q[e]);
                   p += c);
        DLSI_STL(sum + col, DLSI_SUM4(s));
        DLSI_STL(squares + col, DLSI_SUM4(q));
    });
}
/* y = clamp(x scale + shift). */
DLSI_KFN void DLSI_V(col_affine)(const dls_real *x, size_t rows, int32_t c, const dls_real *scale,
                                 const dls_real *shift, dls_real *y, dls_real lo, dls_real hi) {
    const DLSI_VF low = DLSI_SET(lo), high = DLSI_SET(hi);
    size_t i;
    DLSI_COLS({
        const DLSI_VF a = DLSI_LDL(scale + col);
        const DLSI_VF b = DLSI_LDL(shift + col);
        const dls_real *p = x + col;
        dls_real *to = y + col;
        for (i = 0; i < rows; i++, p += c, to += c)
            DLSI_STL(to, DLSI_MIN(high, DLSI_MAX(low, DLSI_FMA(DLSI_LDL(p), a, b))));
    });
}
/* dy where x scale + shift lies inside (lo, hi), else 0: the gradient before a fused clamp. */
#define DLSI_UNCLAMP(dy, x)                                                                        \
    DLSI_SEL(DLSI_AND(DLSI_GT(DLSI_FMA(x, sc, sh), low), DLSI_GT(high, DLSI_FMA(x, sc, sh))), dy,  \
             zero)

/* Sums of dy and of dy (x - mean), dy taken before the clamp. */
DLSI_KFN void DLSI_V(col_grad_stats)(const dls_real *x, const dls_real *dy, size_t rows, int32_t c,
                                     const dls_real *mean, const dls_real *scale,
                                     const dls_real *shift, dls_real lo, dls_real hi,
                                     dls_real *dy_sum, dls_real *dyx_sum) {
    const DLSI_VF zero = DLSI_SET(0.0f), low = DLSI_SET(lo), high = DLSI_SET(hi);
    DLSI_COLS({
        const DLSI_VF k = DLSI_LDL(mean + col), sc = DLSI_LDL(scale + col),
                      sh = DLSI_LDL(shift + col);
        DLSI_VF s[4] = {zero, zero, zero, zero}, q[4] = {zero, zero, zero, zero};
        const dls_real *p = x + col, *d = dy + col;
        DLSI_ROWS4(const DLSI_VF v = DLSI_LDL(p), g = DLSI_UNCLAMP(DLSI_LDL(d), v); s[e] = s[e] + g;
                   q[e] = DLSI_FMA(g, v - k, q[e]); p += c; d += c);
        DLSI_STL(dy_sum + col, DLSI_SUM4(s));
        DLSI_STL(dyx_sum + col, DLSI_SUM4(q));
    });
}
/* dx = a dy + b x + d, dy taken before the clamp. */
DLSI_KFN void DLSI_V(col_grad)(const dls_real *x, const dls_real *dy, size_t rows, int32_t c,
                               const dls_real *a, const dls_real *b, const dls_real *d,
                               const dls_real *scale, const dls_real *shift, dls_real lo,
                               dls_real hi, dls_real *dx, bool add) {
    const DLSI_VF zero = DLSI_SET(0.0f), low = DLSI_SET(lo), high = DLSI_SET(hi);
    size_t i;
    DLSI_COLS({
        const DLSI_VF va = DLSI_LDL(a + col), vb = DLSI_LDL(b + col), vd = DLSI_LDL(d + col);
        const DLSI_VF sc = DLSI_LDL(scale + col), sh = DLSI_LDL(shift + col);
        const dls_real *p = x + col, *q = dy + col;
        dls_real *to = dx + col;
        for (i = 0; i < rows; i++, p += c, q += c, to += c) {
            const DLSI_VF xv = DLSI_LDL(p), g = DLSI_UNCLAMP(DLSI_LDL(q), xv);
            DLSI_VF v = DLSI_FMA(g, va, DLSI_FMA(xv, vb, vd));
            if (add) v = v + DLSI_LDL(to);
            DLSI_STL(to, v);
        }
    });
}

/* ---- Rows ---- */

DLSI_KFN dls_real DLSI_V(row_max)(const dls_real *x, size_t n) {
    dls_real most = x[0], t[DLSI_VW];
    DLSI_VF m = DLSI_SET(most);
    size_t e = 0;
    int k;
    for (; e + DLSI_VW <= n; e += DLSI_VW) m = DLSI_MAX(m, DLSI_LD(x + e));
    DLSI_ST(t, m);
    for (k = 0; k < DLSI_VW; k++) most = t[k] > most ? t[k] : most;
    for (; e < n; e++) most = x[e] > most ? x[e] : most;
    return most;
}
/* y = softmax(x scale) by rows; log_sum (may be NULL): log sum exp(x scale). y may be x. */
DLSI_KFN void DLSI_V(softmax)(const dls_real *x, dls_real *y, size_t rows, int32_t c,
                              dls_real scale, dls_real *log_sum) {
    const size_t n = (size_t)c;
    const DLSI_VF sc = DLSI_SET(scale);
    size_t i;
    for (i = 0; i < rows; i++, x += n, y += n) {
        const dls_real most = DLSI_V(row_max)(x, n) * scale;
        DLSI_VF m = DLSI_SET(most), s[DLSI_LV];
        dls_real sum;
        DLSI_LANES_ZERO(s);
        DLSI_EACH(
            n, DLSI_STL(y + at, DLSI_V(vexp)(DLSI_FMA(DLSI_LDL(x + at), sc, DLSI_SET(0.0f) - m))));
        DLSI_LANES_LOOP(n, s[l] = s[l] + DLSI_LDL(y + at));
        sum = DLSI_V(lanes_sum)(s);
        m = DLSI_SET((dls_real)1 / sum);
        DLSI_EACH(n, DLSI_STL(y + at, DLSI_LDL(y + at) * m));
        if (log_sum != NULL) log_sum[i] = most + dlsi_log_real(sum);
    }
}
/* dx = y (dy - sum(y dy)). */
DLSI_KFN void DLSI_V(softmax_grad)(const dls_real *y, const dls_real *dy, dls_real *dx, size_t rows,
                                   int32_t c, bool add) {
    const size_t n = (size_t)c;
    size_t i;
    for (i = 0; i < rows; i++, y += n, dy += n, dx += n) {
        const DLSI_VF mean = DLSI_SET(DLSI_V(dot)(y, dy, n));
        DLSI_EACH(n, {
            DLSI_VF v = DLSI_LDL(y + at) * (DLSI_LDL(dy + at) - mean);
            if (add) v = v + DLSI_LDL(dx + at);
            DLSI_STL(dx + at, v);
        });
    }
}
/* A row of attention scores s to probabilities p = exp(s scale - log_sum), and of dp in ds to
   p (dp - dot) scale. */
DLSI_KFN void DLSI_V(score_grad)(dls_real *s, dls_real *ds, size_t n, dls_real scale,
                                 dls_real log_sum, dls_real dot) {
    const DLSI_VF sc = DLSI_SET(scale), ls = DLSI_SET(-log_sum), mean = DLSI_SET(dot);
    DLSI_EACH(n, {
        const DLSI_VF p = DLSI_V(vexp)(DLSI_FMA(DLSI_LDL(s + at), sc, ls));
        DLSI_STL(s + at, p);
        DLSI_STL(ds + at, p * (DLSI_LDL(ds + at) - mean) * sc);
    });
}
/* y = (x - mean) istd gain + bias; mean NULL: root mean square instead of deviation. */
DLSI_KFN void DLSI_V(norm)(const dls_real *x, dls_real *y, size_t rows, int32_t c,
                           const dls_real *gain, const dls_real *bias, dls_real eps, dls_real *mean,
                           dls_real *istd) {
    const size_t n = (size_t)c;
    size_t i;
    for (i = 0; i < rows; i++, x += n, y += n) {
        dls_real middle = mean != NULL ? DLSI_V(sum)(x, n) / (dls_real)c : (dls_real)0, r;
        DLSI_VF k = DLSI_SET(middle), s[DLSI_LV];
        DLSI_LANES_ZERO(s);
        DLSI_LANES_LOOP(n, {
            DLSI_VF d = DLSI_LDL(x + at) - k;
            if (left < DLSI_VW) { /* zeros past the end must stay zeros */
                dls_real t[DLSI_VW];
                DLSI_ST(t, d);
                d = DLSI_LDN(t, left);
            }
            s[l] = DLSI_FMA(d, d, s[l]);
        });
        r = (dls_real)1 / dlsi_sqrt_real(DLSI_V(lanes_sum)(s) / (dls_real)c + eps);
        if (mean != NULL) mean[i] = middle;
        istd[i] = r;
        DLSI_EACH(n, {
            DLSI_VF v = (DLSI_LDL(x + at) - k) * DLSI_SET(r);
            if (gain != NULL) v = v * DLSI_LDL(gain + at);
            if (bias != NULL) v = v + DLSI_LDL(bias + at);
            DLSI_STL(y + at, v);
        });
    }
}
/* dx = istd (g dy - mean(g dy) - xhat mean(g dy xhat)); the middle term only with a mean. */
DLSI_KFN void DLSI_V(norm_grad)(const dls_real *x, const dls_real *dy, dls_real *dx, size_t rows,
                                int32_t c, const dls_real *gain, const dls_real *mean,
                                const dls_real *istd, bool add) {
    const size_t n = (size_t)c;
    size_t i;
    for (i = 0; i < rows; i++, x += n, dy += n, dx += n) {
        const DLSI_VF k = DLSI_SET(mean != NULL ? mean[i] : (dls_real)0), r = DLSI_SET(istd[i]);
        DLSI_VF s[DLSI_LV], q[DLSI_LV], a, b;
        DLSI_LANES_ZERO(s);
        DLSI_LANES_ZERO(q);
        DLSI_LANES_LOOP(n, {
            DLSI_VF d = DLSI_LDL(dy + at);
            if (gain != NULL) d = d * DLSI_LDL(gain + at);
            s[l] = s[l] + d;
            q[l] = DLSI_FMA(d, (DLSI_LDL(x + at) - k) * r, q[l]);
        });
        a = DLSI_SET(mean != NULL ? DLSI_V(lanes_sum)(s) / (dls_real)c : (dls_real)0);
        b = DLSI_SET(DLSI_V(lanes_sum)(q) / (dls_real)c);
        DLSI_EACH(n, {
            DLSI_VF d = DLSI_LDL(dy + at);
            DLSI_VF h = (DLSI_LDL(x + at) - k) * r;
            if (gain != NULL) d = d * DLSI_LDL(gain + at);
            d = (d - a - h * b) * r;
            if (add) d = d + DLSI_LDL(dx + at);
            DLSI_STL(dx + at, d);
        });
    }
}
/* dgain = sum over rows of dy xhat. */
DLSI_KFN void DLSI_V(norm_grad_gain)(const dls_real *x, const dls_real *dy, size_t rows, int32_t c,
                                     const dls_real *mean, const dls_real *istd, dls_real *dgain) {
    DLSI_COLS({
        const DLSI_VF zero = DLSI_SET(0.0f);
        DLSI_VF s[4] = {zero, zero, zero, zero};
        const dls_real *p = x + col;
        const dls_real *d = dy + col;
        DLSI_ROWS4(const size_t i = row + (size_t)e;
                   const dls_real m = mean != NULL ? mean[i] : (dls_real)0;
                   const DLSI_VF h = (DLSI_LDL(p) - DLSI_SET(m)) * DLSI_SET(istd[i]);
                   s[e] = DLSI_FMA(DLSI_LDL(d), h, s[e]); p += c; d += c);
        DLSI_STL(dgain + col, DLSI_SUM4(s));
    });
}

/* ---- Pools: windows of one image ---- */

/* The body runs for each output of rows [y0, y1): to is its place, [r0, r1) x [s0, s1) its taps. */
#define DLSI_OUTPUTS(...)                                                                          \
    do {                                                                                           \
        int32_t y, x, r0, r1, s0, s1;                                                              \
        for (y = y0; y < y1; y++) {                                                                \
            dlsi_taps_inside(g->h, g->kh, y, g->sh, 1, g->pt, &r0, &r1);                           \
            for (x = 0; x < g->ow; x++) {                                                          \
                const ptrdiff_t to = y * g->y_row + x * g->y_pix;                                  \
                const ptrdiff_t corner = (ptrdiff_t)(y * g->sh - g->pt) * g->x_row +               \
                                         (ptrdiff_t)(x * g->sw - g->pl) * g->x_pix;                \
                dlsi_taps_inside(g->w, g->kw, x, g->sw, 1, g->pl, &s0, &s1);                       \
                DLSI_COLS(__VA_ARGS__);                                                            \
            }                                                                                      \
        }                                                                                          \
    } while (0)
/* The body runs for each tap, `from` being its place. */
#define DLSI_TAPS(...)                                                                             \
    do {                                                                                           \
        int32_t r, s;                                                                              \
        for (r = r0; r < r1; r++) {                                                                \
            for (s = s0; s < s1; s++) {                                                            \
                const ptrdiff_t from = corner + r * g->x_row + s * g->x_pix + col;                 \
                __VA_ARGS__;                                                                       \
            }                                                                                      \
        }                                                                                          \
    } while (0)

DLSI_KFN void DLSI_V(maxpool)(const dlsi_corr *g, int32_t y0, int32_t y1) {
    const int32_t c = g->c;
    DLSI_OUTPUTS({
        DLSI_VF m = DLSI_SET(g->lo);
        DLSI_TAPS(m = DLSI_MAX(m, DLSI_LDL(g->x + from)));
        DLSI_STL(g->y + to + col, m);
    });
}
/* The first greatest element of a window gets its gradient. */
DLSI_KFN void DLSI_V(maxpool_grad)(const dlsi_corr *g, const dls_real *yv, const dls_real *dy,
                                   dls_real *dx) {
    const int32_t c = g->c, y0 = 0, y1 = g->oh;
    const DLSI_VF zero = DLSI_SET(0.0f);
    DLSI_OUTPUTS({
        const DLSI_VF most = DLSI_LDL(yv + to + col);
        DLSI_VF rest = DLSI_LDL(dy + to + col);
        DLSI_TAPS({
            const DLSI_VM less = DLSI_GT(most, DLSI_LDL(g->x + from));
            DLSI_STL(dx + from, DLSI_LDL(dx + from) + DLSI_SEL(less, zero, rest));
            rest = DLSI_SEL(less, rest, zero);
        });
    });
}
/* What a window's sum is divided by. */
#define DLSI_DIVISOR                                                                               \
    (dls_real)(count_padding ? g->kh * g->kw : dlsi_max_i32(1, (r1 - r0) * (s1 - s0)))
DLSI_KFN void DLSI_V(avgpool)(const dlsi_corr *g, int32_t y0, int32_t y1, bool count_padding) {
    const int32_t c = g->c;
    DLSI_OUTPUTS({
        DLSI_VF m = DLSI_SET(0.0f);
        DLSI_TAPS(m = m + DLSI_LDL(g->x + from));
        DLSI_STL(g->y + to + col, m / DLSI_SET(DLSI_DIVISOR));
    });
}
DLSI_KFN void DLSI_V(avgpool_grad)(const dlsi_corr *g, const dls_real *dy, dls_real *dx,
                                   bool count_padding) {
    const int32_t c = g->c, y0 = 0, y1 = g->oh;
    DLSI_OUTPUTS({
        const DLSI_VF d = DLSI_LDL(dy + to + col) / DLSI_SET(DLSI_DIVISOR);
        DLSI_TAPS(DLSI_STL(dx + from, DLSI_LDL(dx + from) + d));
    });
}

/* ---- Optimisers ---- */

DLSI_KFN void DLSI_V(sgd)(dls_real *w, const dls_real *g, dls_real *m, size_t n, dls_real lr,
                          dls_real momentum, dls_real decay, bool nesterov, dls_real scale) {
    const DLSI_VF step = DLSI_SET(-lr), mu = DLSI_SET(momentum), wd = DLSI_SET(decay);
    const DLSI_VF sc = DLSI_SET(scale);
    DLSI_EACH(n, {
        const DLSI_VF wv = DLSI_LDL(w + at);
        DLSI_VF d = DLSI_FMA(wd, wv, DLSI_LDL(g + at) * sc);
        if (m != NULL) {
            const DLSI_VF mv = DLSI_FMA(mu, DLSI_LDL(m + at), d);
            DLSI_STL(m + at, mv);
            d = DLSI_FMA(mu, mv, d);
            if (!nesterov) d = mv;
        }
        DLSI_STL(w + at, DLSI_FMA(step, d, wv));
    });
}
DLSI_KFN void DLSI_V(adam)(dls_real *w, const dls_real *g, dls_real *m, dls_real *v, size_t n,
                           const dlsi_adam *p, dls_real scale) {
    const DLSI_VF b1 = DLSI_SET(p->beta1), c1 = DLSI_SET(1.0f - p->beta1), b2 = DLSI_SET(p->beta2);
    const DLSI_VF c2 = DLSI_SET(1.0f - p->beta2), sc = DLSI_SET(scale), eps = DLSI_SET(p->eps);
    const DLSI_VF step = DLSI_SET(-p->lr * p->correct1), k2 = DLSI_SET(p->correct2);
    const DLSI_VF l2 = DLSI_SET(p->decoupled ? 0.0f : p->decay);
    const DLSI_VF shrink = DLSI_SET(p->decoupled ? 1.0f - p->lr * p->decay : 1.0f);
    DLSI_EACH(n, {
        DLSI_VF wv = DLSI_LDL(w + at);
        const DLSI_VF d = DLSI_FMA(l2, wv, DLSI_LDL(g + at) * sc);
        const DLSI_VF mv = DLSI_FMA(b1, DLSI_LDL(m + at), c1 * d);
        const DLSI_VF vv = DLSI_FMA(b2, DLSI_LDL(v + at), c2 * d * d);
        DLSI_STL(m + at, mv);
        DLSI_STL(v + at, vv);
        wv = wv * shrink;
        DLSI_STL(w + at, DLSI_FMA(step, mv / (DLSI_SQRT(vv) * k2 + eps), wv));
    });
}
DLSI_KFN void DLSI_V(rmsprop)(dls_real *w, const dls_real *g, dls_real *v, dls_real *m, size_t n,
                              const dlsi_adam *p, float momentum, dls_real scale) {
    const DLSI_VF b2 = DLSI_SET(p->beta2), c2 = DLSI_SET(1.0f - p->beta2), sc = DLSI_SET(scale);
    const DLSI_VF step = DLSI_SET(-p->lr), eps = DLSI_SET(p->eps), wd = DLSI_SET(p->decay);
    const DLSI_VF mu = DLSI_SET(momentum);
    DLSI_EACH(n, {
        const DLSI_VF wv = DLSI_LDL(w + at);
        DLSI_VF d = DLSI_FMA(wd, wv, DLSI_LDL(g + at) * sc);
        const DLSI_VF vv = DLSI_FMA(b2, DLSI_LDL(v + at), c2 * d * d);
        DLSI_STL(v + at, vv);
        d = d / (DLSI_SQRT(vv) + eps);
        if (m != NULL) {
            d = DLSI_FMA(mu, DLSI_LDL(m + at), d);
            DLSI_STL(m + at, d);
        }
        DLSI_STL(w + at, DLSI_FMA(step, d, wv));
    });
}
DLSI_KFN void DLSI_V(lion)(dls_real *w, const dls_real *g, dls_real *m, size_t n,
                           const dlsi_adam *p, dls_real scale) {
    const DLSI_VF b1 = DLSI_SET(p->beta1), c1 = DLSI_SET(1.0f - p->beta1), b2 = DLSI_SET(p->beta2);
    const DLSI_VF c2 = DLSI_SET(1.0f - p->beta2), sc = DLSI_SET(scale), lr = DLSI_SET(p->lr);
    const DLSI_VF shrink = DLSI_SET(1.0f - p->lr * p->decay), zero = DLSI_SET(0.0f);
    DLSI_EACH(n, {
        const DLSI_VF d = DLSI_LDL(g + at) * sc;
        const DLSI_VF mv = DLSI_LDL(m + at);
        const DLSI_VF u = DLSI_FMA(b1, mv, c1 * d);
        const DLSI_VF up =
            DLSI_SEL(DLSI_GT(u, zero), lr, DLSI_SEL(DLSI_GT(zero, u), zero - lr, zero));
        DLSI_STL(m + at, DLSI_FMA(b2, mv, c2 * d));
        DLSI_STL(w + at, DLSI_LDL(w + at) * shrink - up);
    });
}

/* ---- Exact reduction ---- */

DLSI_KFN dls_real DLSI_V(max_abs)(const dls_real *x, size_t n) {
    const DLSI_VF zero = DLSI_SET(0.0f);
    DLSI_VF most = zero, nan = zero;
    dls_real t[DLSI_VW], u[DLSI_VW], m = (dls_real)0;
    bool bad = false;
    int i;
    DLSI_EACH(n, {
        const DLSI_VF v = DLSI_LDL(x + at);
        most = DLSI_MAX(most, DLSI_MAX(v, zero - v));
        nan = nan + (v - v);
    });
    DLSI_ST(t, most);
    DLSI_ST(u, nan);
    for (i = 0; i < DLSI_VW; i++) {
        m = t[i] > m ? t[i] : m;
        bad = bad || !(u[i] == (dls_real)0);
    }
    return bad ? (dls_real)dlsi_bits_float(0x7F800000u) : m;
}
/* sum = (first ? 0 : sum) + round(x scale), ties to even; values past 2^30 are cut: the caller has
   seen max_abs and will not use them. */
DLSI_KFN void DLSI_V(exact_add)(int32_t *sum, const dls_real *x, size_t n, dls_real scale,
                                bool first) {
    const DLSI_VF sc = DLSI_SET(scale), lo = DLSI_SET(-1073741824.0f), hi = DLSI_SET(1073741824.0f);
    DLSI_EACH(n, {
        const DLSI_VF v = DLSI_LDL(x + at) * sc;
        DLSI_V(add_ints)(sum + at, DLSI_MIN(DLSI_MAX(v, lo), hi), left, first);
    });
}
DLSI_KFN void DLSI_V(exact_get)(const int32_t *sum, dls_real *x, size_t n, dls_real scale) {
    const DLSI_VF sc = DLSI_SET(scale);
    DLSI_EACH(n, DLSI_STL(x + at, DLSI_V(load_ints)(sum + at, left) * sc));
}

/* ---- The table ---- */

#if DLSI_VARIANTS > 1
static const dlsi_kern DLSI_V(kern) = {DLSI_VW,
                                       DLSI_MR,
                                       DLSI_NR,
                                       DLSI_FAST,
                                       DLSI_V(pack),
                                       DLSI_V(gemm),
                                       DLSI_V(corr),
                                       DLSI_V(corr_dw),
                                       DLSI_V(depthwise),
                                       DLSI_V(depthwise_dw),
#if DLSI_FAST
                                       DLSI_V(wino_filter),
                                       DLSI_V(wino_gather),
                                       DLSI_V(wino_scatter),
                                       DLSI_V(wino_gather_dy),
                                       DLSI_V(wino_filter_grad),
#else
                                       NULL,
                                       NULL,
                                       NULL,
                                       NULL,
                                       NULL,
#endif
                                       DLSI_V(act),
                                       DLSI_V(act_grad),
                                       DLSI_V(add),
                                       DLSI_V(mul),
                                       DLSI_V(axpby),
                                       DLSI_V(dropout),
                                       DLSI_V(col_sum),
                                       DLSI_V(col_stats),
                                       DLSI_V(col_affine),
                                       DLSI_V(col_grad_stats),
                                       DLSI_V(col_grad),
                                       DLSI_V(softmax),
                                       DLSI_V(softmax_grad),
                                       DLSI_V(score_grad),
                                       DLSI_V(norm),
                                       DLSI_V(norm_grad),
                                       DLSI_V(norm_grad_gain),
                                       DLSI_V(row_max),
                                       DLSI_V(sum),
                                       DLSI_V(dot),
                                       DLSI_V(maxpool),
                                       DLSI_V(maxpool_grad),
                                       DLSI_V(avgpool),
                                       DLSI_V(avgpool_grad),
                                       DLSI_V(sgd),
                                       DLSI_V(adam),
                                       DLSI_V(rmsprop),
                                       DLSI_V(lion),
                                       DLSI_V(max_abs),
                                       DLSI_V(exact_add),
                                       DLSI_V(exact_get)};
#endif

#undef DLSI_FAST
#undef DLSI_SUFFIX
#undef DLSI_VT
#undef DLSI_VF
#undef DLSI_VM
#undef DLSI_VW
#undef DLSI_MR
#undef DLSI_NV
#undef DLSI_LD
#undef DLSI_ST
#undef DLSI_LDN
#undef DLSI_STN
#undef DLSI_SET
#undef DLSI_FMA
#undef DLSI_MAX
#undef DLSI_MIN
#undef DLSI_SQRT
#undef DLSI_GT
#undef DLSI_SEL
#undef DLSI_AND
#undef DLSI_PASTE3
#undef DLSI_PASTE
#undef DLSI_V
#undef DLSI_NR
#undef DLSI_LV
#undef DLSI_KFN
#undef DLSI_KINLINE
#undef DLSI_LEFT
#undef DLSI_LANES_LOOP
#undef DLSI_LANES_ZERO
#undef DLSI_LDL
#undef DLSI_STL
#undef DLSI_EACH
#undef DLSI_TILE
#undef DLSI_TILE_CASE
#undef DLSI_TILES
#undef DLSI_TILES4
#undef DLSI_TILES6
#undef DLSI_TILES14
#undef DLSI_TILE_X
#undef DLSI_TILE4
#undef DLSI_TILES_MAKE
#undef DLSI_DWX
#undef DLSI_ROWS4
#undef DLSI_WIDE_ROWS
#undef DLSI_ACT_CASE
#undef DLSI_ACT_GRAD_CASE
#undef DLSI_ACTS
#undef DLSI_COLS
#undef DLSI_SUM4
#undef DLSI_UNCLAMP
#undef DLSI_OUTPUTS
#undef DLSI_TAPS
#undef DLSI_DIVISOR
#endif /* DLSI_PASS */

#ifndef DLSI_PASS
/* ================================================================================================
   IMPLEMENTATION, second half.
   */
#ifdef DLSI_BUILDING

#define DLSI_PASS 1
#include DLSHARD_SELF
#undef DLSI_PASS
#if DLSI_X86
#define DLSI_PASS 2
#include DLSHARD_SELF
#undef DLSI_PASS
#define DLSI_PASS 3
#include DLSHARD_SELF
#undef DLSI_PASS
#define DLSI_PASS 4
#include DLSHARD_SELF
#undef DLSI_PASS
#endif
#if DLSI_NEON
#define DLSI_PASS 5
#include DLSHARD_SELF
#undef DLSI_PASS
#define DLSI_PASS 6
#include DLSHARD_SELF
#undef DLSI_PASS
#endif

/* DLSI_K(cx, kernel, ...): through the table, or straight where there is one variant, so that
   kernels nobody calls are not linked. */
#if DLSI_VARIANTS > 1
#define DLSI_K(cx, kernel, ...) (((const dlsi_kern *)(cx)->kern)->kernel(__VA_ARGS__))
#define DLSI_K_VW(cx) (((const dlsi_kern *)(cx)->kern)->vw)
#define DLSI_K_MR(cx) (((const dlsi_kern *)(cx)->kern)->mr)
#define DLSI_K_NR(cx) (((const dlsi_kern *)(cx)->kern)->nr)
#define DLSI_K_FAST_CONV(cx) (((const dlsi_kern *)(cx)->kern)->fast_conv)
#else
#define DLSI_K(cx, kernel, ...) ((void)(cx), dlsi_##kernel##_scalar(__VA_ARGS__))
#define DLSI_K_VW(cx) ((void)(cx), 1)
#define DLSI_K_MR(cx) ((void)(cx), 4)
#define DLSI_K_NR(cx) ((void)(cx), 4)
#define DLSI_K_FAST_CONV(cx) ((void)(cx), false)
#endif

DLS_API const char *dls_isa_name(dls_isa isa) {
    static const char *const name[DLS_ISA_COUNT] = {"best", "scalar", "neon", "avx2", "avx512"};
    return (unsigned)isa >= DLS_ISA_COUNT ? "?" : name[isa];
}
DLS_API const char *dls_act_name(dls_act act) {
    static const char *const name[DLS_ACT_COUNT] = {"none",      "relu",   "relu6",   "leaky",
                                                    "sigmoid",   "tanh",   "silu",    "gelu",
                                                    "gelu_tanh", "hswish", "hsigmoid"};
    return (unsigned)act >= DLS_ACT_COUNT ? "?" : name[act];
}

#if DLSI_X86
/* Leaf 7 and the OS's word (XCR0) that it saves the registers. */
DLSI_FN dls_isa dlsi_x86_isa(void) {
    unsigned a, b, c, d, lo, hi;
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F DQ BW VL */
    bool fma;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c >> 27 & 1u) == 0)
        return DLS_ISA_SCALAR; /* OSXSAVE */
    fma = (c >> 12 & 1u) != 0;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    if ((lo & 6u) != 6u || !fma) return DLS_ISA_SCALAR;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b >> 5 & 1u) == 0) return DLS_ISA_SCALAR;
    return (lo & 0xE6u) == 0xE6u && (b & avx512) == avx512 ? DLS_ISA_AVX512 : DLS_ISA_AVX2;
}
#endif
#if DLSI_X86
DLSI_FN const void *dlsi_kern_of(dls_isa isa, bool strict) {
    if (isa == DLS_ISA_SCALAR) return &dlsi_kern_scalar;
    if (strict) return &dlsi_kern_avx2s;
    return isa == DLS_ISA_AVX512 ? (const void *)&dlsi_kern_avx512 : (const void *)&dlsi_kern_avx2;
}
#elif DLSI_NEON
DLSI_FN const void *dlsi_kern_of(dls_isa isa, bool strict) {
    if (isa == DLS_ISA_SCALAR) return &dlsi_kern_scalar;
    return strict ? (const void *)&dlsi_kern_neons : (const void *)&dlsi_kern_neon;
}
#else
DLSI_FN const void *dlsi_kern_of(dls_isa isa, bool strict) {
    (void)isa;
    (void)strict;
    return NULL;
}
#endif
#if DLSI_X86
DLS_API dls_isa dls_isa_best(void) { return dlsi_x86_isa(); }
#elif DLSI_NEON
DLS_API dls_isa dls_isa_best(void) { return DLS_ISA_NEON; }
#else
DLS_API dls_isa dls_isa_best(void) { return DLS_ISA_SCALAR; }
#endif
DLS_API bool dls_isa_usable(dls_isa isa) {
    const dls_isa best = dls_isa_best();
    return isa == DLS_ISA_SCALAR || isa == best || (isa == DLS_ISA_AVX2 && best == DLS_ISA_AVX512);
}

/* ------------------------------------------------------------------------------------------------
   >>par.impl  deps: config base port kern par.api   */

#if DLS_ENABLE_THREADS
#include <pthread.h>
#include <sched.h>

typedef struct dlsi_worker {
    dls_pool *pool;
    pthread_t thread;
    int32_t index;
} dlsi_worker;

/* A job is one 64-bit ticket: generation << 48 | tasks << 24 | next task. A worker claims a task by
   adding 1 to the ticket it read, so a worker that is late for a job cannot take from the next. */
struct dls_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    dlsi_worker *worker; /* threads - 1 of them */
    int32_t threads;
    int32_t spin_us;
    dls_task_fn fn;
    void *arg;
    uint64_t ticket;  /* atomic */
    int32_t pending;  /* atomic: tasks not yet finished */
    int32_t sleeping; /* atomic */
    int32_t stop;     /* atomic */
};
#define DLSI_TASKS_MAX 0xFFFFFF

#if defined(__x86_64__) || defined(__i386__)
DLSI_INLINE void dlsi_pause(void) { __asm__ volatile("pause"); }
#elif defined(__aarch64__)
DLSI_INLINE void dlsi_pause(void) { __asm__ volatile("yield"); }
#else
DLSI_INLINE void dlsi_pause(void) {}
#endif

/* Claims and runs tasks of the present job until none is left. */
DLSI_FN void dlsi_pool_work(dls_pool *p, int32_t thread) {
    uint64_t t = __atomic_load_n(&p->ticket, __ATOMIC_ACQUIRE);
    for (;;) {
        const int32_t next = (int32_t)(t & 0xFFFFFFu), count = (int32_t)(t >> 24 & 0xFFFFFFu);
        if (next >= count) return;
        if (!__atomic_compare_exchange_n(&p->ticket, &t, t + 1, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE))
            continue;
        p->fn(p->arg, next, thread); /* stable: the job cannot end before this task does */
        __atomic_fetch_sub(&p->pending, 1, __ATOMIC_ACQ_REL);
        t = __atomic_load_n(&p->ticket, __ATOMIC_ACQUIRE);
    }
}
/* Waits for a generation other than `seen`: spins, then sleeps. */
DLSI_FN uint64_t dlsi_pool_wait(dls_pool *p, uint64_t seen) {
    uint64_t now, start = dls_now_us();
    int32_t i;
    do {
        for (i = 0; i < 200; i++) {
            now = __atomic_load_n(&p->ticket, __ATOMIC_ACQUIRE) >> 48;
            if (now != seen || __atomic_load_n(&p->stop, __ATOMIC_ACQUIRE) != 0) return now;
            dlsi_pause();
        }
    } while (dls_now_us() - start < (uint64_t)p->spin_us);
    pthread_mutex_lock(&p->lock);
    __atomic_fetch_add(&p->sleeping, 1, __ATOMIC_SEQ_CST);
    while ((now = __atomic_load_n(&p->ticket, __ATOMIC_SEQ_CST) >> 48) == seen &&
           __atomic_load_n(&p->stop, __ATOMIC_SEQ_CST) == 0)
        pthread_cond_wait(&p->wake, &p->lock);
    __atomic_fetch_sub(&p->sleeping, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&p->lock);
    return now;
}
DLSI_FN void *dlsi_pool_main(void *arg) {
    dlsi_worker *w = (dlsi_worker *)arg;
    uint64_t seen = 0;
    for (;;) {
        seen = dlsi_pool_wait(w->pool, seen);
        if (__atomic_load_n(&w->pool->stop, __ATOMIC_ACQUIRE) != 0) return NULL;
        dlsi_pool_work(w->pool, w->index);
    }
}
DLSI_FN void dlsi_pool_wake(dls_pool *p) {
    if (__atomic_load_n(&p->sleeping, __ATOMIC_SEQ_CST) == 0) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

DLS_API void dls_parallel_for(dls_pool *pool, int32_t count, dls_task_fn fn, void *arg) {
    uint64_t generation;
    int32_t i;
    if (pool == NULL || pool->threads == 1 || count <= 1 || count > DLSI_TASKS_MAX) {
        for (i = 0; i < count; i++) fn(arg, i, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    __atomic_store_n(&pool->pending, count, __ATOMIC_RELAXED);
    generation = ((__atomic_load_n(&pool->ticket, __ATOMIC_RELAXED) >> 48) + 1) & 0xFFFFu;
    __atomic_store_n(&pool->ticket, generation << 48 | (uint64_t)(uint32_t)count << 24,
                     __ATOMIC_SEQ_CST);
    dlsi_pool_wake(pool);
    dlsi_pool_work(pool, 0);
    for (i = 0; __atomic_load_n(&pool->pending, __ATOMIC_ACQUIRE) != 0; i++) {
        if (i < 4000)
            dlsi_pause();
        else
            (void)sched_yield();
    }
}

DLSI_FN int32_t dlsi_pool_count(const dls_pool_desc *desc) {
    return desc == NULL || desc->threads == 0 ? dls_cpu_count() : desc->threads;
}
DLS_API size_t dls_pool_size(const dls_pool_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    const int32_t threads = dlsi_pool_count(desc);
    (void)dlsi_layout_take(&l, sizeof(dls_pool));
    (void)dlsi_layout_take(&l, (size_t)dlsi_max_i32(threads, 1) * sizeof(dlsi_worker));
    return dlsi_layout_total(&l);
}
DLS_API dls_status dls_pool_init(dls_pool **pool, const dls_pool_desc *desc, void *mem,
                                 size_t bytes) {
    dlsi_layout l = dlsi_layout_at(mem);
    const int32_t threads = dlsi_pool_count(desc);
    dls_pool *p;
    int32_t i;
    *pool = NULL;
    if (threads < 1 || threads > DLS_THREADS_MAX) return DLS_E_ARG;
    if (mem == NULL || bytes < dls_pool_size(desc)) return DLS_E_MEMORY;
    p = (dls_pool *)dlsi_layout_take(&l, sizeof *p);
    memset(p, 0, sizeof *p);
    p->worker = (dlsi_worker *)dlsi_layout_take(&l, (size_t)threads * sizeof(dlsi_worker));
    p->spin_us = desc != NULL && desc->spin_us != 0 ? desc->spin_us : 50;
    if (pthread_mutex_init(&p->lock, NULL) != 0) return DLS_E_MEMORY;
    if (pthread_cond_init(&p->wake, NULL) != 0) {
        pthread_mutex_destroy(&p->lock);
        return DLS_E_MEMORY;
    }
    for (i = 1, p->threads = 1; i < threads; i++, p->threads++) {
        dlsi_worker *w = &p->worker[i - 1];
        w->pool = p;
        w->index = i;
        if (pthread_create(&w->thread, NULL, dlsi_pool_main, w) != 0) {
            dls_pool_close(p);
            return DLS_E_MEMORY;
        }
    }
    *pool = p;
    return DLS_OK;
}
DLS_API void dls_pool_close(dls_pool *pool) {
    int32_t i;
    if (pool == NULL) return;
    __atomic_store_n(&pool->stop, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (i = 0; i < pool->threads - 1; i++) pthread_join(pool->worker[i].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
}
DLS_API int32_t dls_pool_threads(const dls_pool *pool) { return pool != NULL ? pool->threads : 1; }

#else /* a pool is the caller alone */
struct dls_pool {
    int32_t threads;
};
DLS_API size_t dls_pool_size(const dls_pool_desc *desc) {
    (void)desc;
    return sizeof(dls_pool) + DLS_ALIGN - 1;
}
DLS_API dls_status dls_pool_init(dls_pool **pool, const dls_pool_desc *desc, void *mem,
                                 size_t bytes) {
    dlsi_layout l = dlsi_layout_at(mem);
    *pool = NULL;
    if (desc != NULL && (desc->threads < 0 || desc->threads > DLS_THREADS_MAX)) return DLS_E_ARG;
    if (mem == NULL || bytes < dls_pool_size(desc)) return DLS_E_MEMORY;
    *pool = (dls_pool *)dlsi_layout_take(&l, sizeof **pool);
    (*pool)->threads = 1;
    return DLS_OK;
}
DLS_API void dls_pool_close(dls_pool *pool) { (void)pool; }
DLS_API int32_t dls_pool_threads(const dls_pool *pool) {
    (void)pool;
    return 1;
}
DLS_API void dls_parallel_for(dls_pool *pool, int32_t count, dls_task_fn fn, void *arg) {
    int32_t i;
    (void)pool;
    for (i = 0; i < count; i++) fn(arg, i, 0);
}
#endif

#if DLS_ENABLE_HEAP
DLS_API dls_pool *dls_pool_create(const dls_pool_desc *desc) {
    const size_t bytes = dls_pool_size(desc);
    void *mem = dlsi_heap_take(bytes);
    dls_pool *pool = NULL;
    if (mem == NULL) return NULL;
    if (dls_pool_init(&pool, desc, mem, bytes) != DLS_OK) dlsi_heap_give(mem);
    return pool;
}
DLS_API void dls_pool_destroy(dls_pool *pool) {
    if (pool == NULL) return;
    dls_pool_close(pool);
    dlsi_heap_give(pool);
}
#endif

/* ---- Splitting work ---- */

/* fn(arg, first, count, thread) over pieces of at most grain of n things. */
typedef void (*dlsi_span_fn)(const void *arg, size_t first, size_t count, int32_t thread);
typedef struct dlsi_spans {
    dlsi_span_fn fn;
    const void *arg;
    size_t n, grain;
} dlsi_spans;
DLSI_FN void dlsi_span_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_spans *s = (const dlsi_spans *)arg;
    const size_t first = (size_t)task * s->grain;
    s->fn(s->arg, first, dlsi_min_size(s->grain, s->n - first), thread);
}
DLSI_FN void dlsi_par_spans(const dls_cx *cx, size_t n, size_t grain, dlsi_span_fn fn,
                            const void *arg) {
    dlsi_spans s;
    s.fn = fn;
    s.arg = arg;
    s.n = n;
    s.grain = dlsi_max_size(grain, 1);
    if (dls_pool_threads(cx->pool) == 1)
        fn(arg, 0, n, 0);
    else
        dls_parallel_for(cx->pool, (int32_t)((n + s.grain - 1) / s.grain), dlsi_span_task, &s);
}
#define DLSI_GRAIN 8192 /* elements of a piece of elementwise work */

DLS_API dls_status dls_cx_init(dls_cx *cx, dls_isa isa, bool strict, dls_pool *pool) {
    if (isa == DLS_ISA_BEST) isa = dls_isa_best();
    if (!dls_isa_usable(isa)) return DLS_E_UNSUPPORTED;
    cx->kern = dlsi_kern_of(isa, strict);
    cx->pool = pool;
    cx->isa = isa;
    cx->strict = strict;
    return DLS_OK;
}

/* ---- Matrix product over the pool ---- */

typedef struct dlsi_gemm_job {
    const dls_cx *cx;
    dlsi_gemm g;
    dls_real *packed; /* B in panels, packed by all threads first; or NULL */
    dls_real *scratch;
    size_t scratch_reals; /* per thread */
    int32_t rows, cols;   /* of a task */
    int32_t col_tasks;
    dls_ready_fn ready;
    void *ready_user;
} dlsi_gemm_job;

/* Whether all threads pack B together before they multiply. */
DLSI_INLINE bool dlsi_gemm_shares(const dls_cx *cx, const dlsi_gemm *g) {
    return DLSI_K_VW(cx) > 1 && !g->b_packed && !dlsi_gemm_direct(g, DLSI_K_VW(cx), DLSI_K_MR(cx));
}
DLSI_FN size_t dlsi_gemm_shared_reals(const dls_cx *cx, const dlsi_gemm *g) {
    const int32_t nr = DLSI_K_NR(cx);
    if (!dlsi_gemm_shares(cx, g)) return 0;
    return (size_t)(dlsi_ceil_div(g->n, nr) * nr) * (size_t)g->k;
}
/* Scratch of one thread that multiplies by itself. */
DLSI_FN size_t dlsi_gemm_thread_reals(const dls_cx *cx, const dlsi_gemm *g) {
    const int32_t vw = DLSI_K_VW(cx), mr = DLSI_K_MR(cx);
    const int32_t rows = dlsi_min_i32(dlsi_ceil_div(g->m, mr) + 1, DLSI_PANELS) * mr;
    const bool copies = dlsi_gemm_copies(g, vw, mr, DLSI_K_NR(cx));
    const size_t copy = copies ? (size_t)rows * (size_t)(DLSI_KC + vw) : 0;
    return dlsi_round_up(dlsi_gemm_pack_reals(g, vw, mr, DLSI_K_NR(cx)) + copy, 16);
}
DLSI_FN size_t dlsi_gemm_work(const dls_cx *cx, const dlsi_gemm *g) {
    const size_t threads = (size_t)dls_pool_threads(cx->pool);
    dlsi_gemm own = *g;
    own.b_packed = own.b_packed || dlsi_gemm_shares(cx, g);
    return (dlsi_round_up(dlsi_gemm_shared_reals(cx, g), 16) +
            threads * dlsi_gemm_thread_reals(cx, &own)) *
           sizeof(dls_real);
}
DLSI_FN void dlsi_gemm_pack_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_gemm_job *job = (const dlsi_gemm_job *)arg;
    const dlsi_gemm *g = &job->g;
    const int32_t nr = DLSI_K_NR(job->cx), j = (int32_t)first * nr;
    const ptrdiff_t panel = (ptrdiff_t)g->k * nr;
    (void)thread;
    DLSI_K(job->cx, pack, g->b + j * g->b_col, g->b_k, g->b_col, g->k,
           dlsi_min_i32((int32_t)count * nr, g->n - j), job->packed + (ptrdiff_t)first * panel,
           panel);
}
DLSI_FN void dlsi_gemm_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_gemm_job *job = (const dlsi_gemm_job *)arg;
    const int32_t i = task / job->col_tasks * job->rows, j = task % job->col_tasks * job->cols;
    dlsi_gemm g = job->g;
    g.m = dlsi_min_i32(job->rows, g.m - i);
    g.n = dlsi_min_i32(job->cols, g.n - j);
    g.a += i * g.a_row;
    g.c += i * g.ldc + j;
    if (g.bias != NULL) g.bias += j;
    if (g.res != NULL) g.res += i * g.ldc + j;
    if (job->packed != NULL) {
        g.b = job->packed;
        g.b_packed = true;
    }
    if (g.b_packed)
        g.b += (ptrdiff_t)j * g.k; /* whole panels: j is a multiple of nr */
    else
        g.b += j * g.b_col;
    DLSI_K(job->cx, gemm, &g, job->scratch + (size_t)thread * job->scratch_reals);
    if (job->ready != NULL && g.m > 0) job->ready(job->ready_user, g.c, (size_t)g.m * (size_t)g.n);
}
/* The product, split over the pool. work: dlsi_gemm_work() bytes. ready (may be NULL) is told of
   every piece of C when it is done; C must then be packed. */
DLSI_FN void dlsi_gemm_run(const dls_cx *cx, const dlsi_gemm *g, void *work, dls_ready_fn ready,
                           void *ready_user) {
    const int32_t threads = dls_pool_threads(cx->pool), mr = DLSI_K_MR(cx), nr = DLSI_K_NR(cx);
    dlsi_gemm_job job;
    dlsi_gemm own = *g;
    int32_t row_tasks;
    job.cx = cx;
    job.g = *g;
    job.packed = NULL;
    job.scratch = (dls_real *)work;
    job.ready = ready;
    job.ready_user = ready_user;
    if (dlsi_gemm_shares(cx, g)) {
        job.packed = (dls_real *)work;
        job.scratch += dlsi_round_up(dlsi_gemm_shared_reals(cx, g), 16);
        dlsi_par_spans(cx, (size_t)dlsi_ceil_div(g->n, nr), 1, dlsi_gemm_pack_span, &job);
        own.b_packed = true;
    }
    job.scratch_reals = dlsi_gemm_thread_reals(cx, &own);
    job.rows = g->m;
    job.cols = dlsi_ceil_div(g->n, nr) * nr;
    if (ready != NULL) { /* pieces of about 128 KB, still in the cache when ready looks at them */
        job.rows = dlsi_max_i32(mr, 32768 / g->n / mr * mr);
    } else if (threads > 1 && g->n >= 2 * threads * nr && g->m < 4 * g->n) {
        job.cols = dlsi_ceil_div(dlsi_ceil_div(g->n, nr), 2 * threads) * nr;
    } else if (threads > 1) {
        job.rows = dlsi_max_i32(mr, dlsi_ceil_div(dlsi_ceil_div(g->m, mr), 4 * threads) * mr);
    }
    row_tasks = dlsi_ceil_div(g->m, dlsi_min_i32(job.rows, g->m));
    job.col_tasks = dlsi_ceil_div(g->n, job.cols);
    dls_parallel_for(cx->pool, row_tasks * job.col_tasks, dlsi_gemm_task, &job);
}

DLSI_FN void dlsi_gemm_from_desc(const dls_gemm_desc *d, dlsi_gemm *g) {
    const ptrdiff_t lda = d->lda != 0 ? d->lda : d->trans_a ? d->m : d->k;
    const ptrdiff_t ldb = d->ldb != 0 ? d->ldb : d->trans_b ? d->k : d->n;
    memset(g, 0, sizeof *g);
    g->a = d->a;
    g->b = d->b;
    g->c = d->c;
    g->bias = d->bias;
    g->a_row = d->trans_a ? 1 : lda;
    g->a_k = d->trans_a ? lda : 1;
    g->b_k = d->trans_b ? 1 : ldb;
    g->b_col = d->trans_b ? ldb : 1;
    g->ldc = d->ldc != 0 ? d->ldc : d->n;
    g->m = d->m;
    g->n = d->n;
    g->k = d->k;
    g->cont = d->add;
    (void)dlsi_act_clamp(d->act, &g->lo, &g->hi);
}
DLS_API size_t dls_gemm_work(const dls_cx *cx, const dls_gemm_desc *desc) {
    dlsi_gemm g;
    dlsi_gemm_from_desc(desc, &g);
    return dlsi_gemm_work(cx, &g);
}
DLS_API dls_status dls_gemm(const dls_cx *cx, const dls_gemm_desc *desc, void *work) {
    dls_real lo, hi;
    dlsi_gemm g;
    if (desc->m < 1 || desc->n < 1 || desc->k < 1 || desc->a == NULL || desc->b == NULL ||
        desc->c == NULL || !dlsi_act_clamp(desc->act, &lo, &hi))
        return DLS_E_ARG;
    dlsi_gemm_from_desc(desc, &g);
    if (g.a_row * g.a_k < (desc->trans_a ? g.m : g.k) ||
        g.b_k * g.b_col < (desc->trans_b ? g.k : g.n) || g.ldc < g.n)
        return DLS_E_ARG;
    dlsi_gemm_run(cx, &g, work, NULL, NULL);
    return DLS_OK;
}

/* ------------------------------------------------------------------------------------------------
   >>op.impl                                deps: config base port tensor kern par op.api
   Each op: what its attributes mean, shape rule, forward, backward, row. To add one, write those
   here, declare its row in >>op.api, name it in dls_op_find, and give it a builder in >>net. */

DLS_API dls_status dls_op_fail(const dls_op_site *site, dls_status status, const char *what,
                               int32_t a, int32_t b, int32_t c) {
    return dlsi_fail(site->error, status, what, NULL, a, b, c);
}

#if DLS_ENABLE_TRAIN
#define DLSI_BACKWARD(fn) fn
#else
#define DLSI_BACKWARD(fn) NULL
#endif
#if DLSI_VARIANTS > 1
#define DLSI_PACKING(fn) fn
#else /* scalar code reads weights as they are, see dlsi_packs */
#define DLSI_PACKING(fn) NULL
#endif
/* So that the compiler drops what only training needs where there is none. */
#define DLSI_TRAINS(object) (DLS_ENABLE_TRAIN && (object)->train)
/* Firmware that shares no work never asks how much there is, and is spared double arithmetic. */
#define DLSI_MACS(count) (DLSI_HOSTED || DLS_ENABLE_PEERS ? (count) : 0.0)

/* ---- Helpers ---- */

DLSI_FN size_t dlsi_count(dls_shape s) { return (size_t)s.h * (size_t)s.w * (size_t)s.c; }
DLSI_FN dls_shape dlsi_shape(int32_t h, int32_t w, int32_t c) {
    dls_shape s;
    s.h = h;
    s.w = w;
    s.c = c;
    return s;
}
/* Two 16-bit numbers in an attribute. */
DLSI_FN int32_t dlsi_pair(int32_t a, int32_t b) {
    return (int32_t)(((uint32_t)a & 0xFFFFu) | (uint32_t)b << 16);
}
DLSI_FN int32_t dlsi_low(int32_t pair) { return pair & 0xFFFF; }
DLSI_FN int32_t dlsi_high(int32_t pair) { return pair >> 16 & 0xFFFF; }
DLSI_FN dls_act dlsi_act_of(int32_t number) {
    return number > 0 && number < (int32_t)DLS_ACT_COUNT ? (dls_act)number : DLS_ACT_NONE;
}
DLSI_FN dls_act dlsi_attr_act(const dls_attr *a) { return dlsi_act_of(a->i[DLS_ATTR_ACT] & 255); }
DLSI_FN void dlsi_param(dls_op_spec *spec, const char *name, int32_t d0, int32_t d1, int32_t d2,
                        int32_t d3, dls_init init, float scale, unsigned flags) {
    dls_param *p = &spec->param[spec->params++];
    p->name = name;
    p->dim[0] = d0;
    p->dim[1] = d1;
    p->dim[2] = d2;
    p->dim[3] = d3;
    p->init = (uint8_t)init;
    p->flags = (uint8_t)flags;
    p->scale = scale;
}
DLSI_FN size_t dlsi_param_count(const dls_param *p) {
    return (size_t)p->dim[0] * (size_t)p->dim[1] * (size_t)p->dim[2] * (size_t)p->dim[3];
}
/* Whether a product of two sizes stays an int32 that tensors may have. */
DLSI_FN bool dlsi_fits(int64_t a, int64_t b) {
    const int64_t most = DLS_DIM_MAX; /* its square is an int64: no division */
    return a >= 0 && b >= 0 && (a == 0 || b == 0 || (a <= most && b <= most && a * b <= most));
}
/* Bound of uniform initial weights that keeps the variance of what passes: He et al. 2015. */
DLSI_FN float dlsi_he(int64_t fan_in) {
    const int32_t n = fan_in < 1 ? 1 : fan_in < DLS_DIM_MAX ? (int32_t)fan_in : DLS_DIM_MAX;
    return dlsi_sqrtf(6.0f / (float)n);
}
DLSI_FN size_t dlsi_reals(size_t count) { return dlsi_mul(count, sizeof(dls_real)); }
DLSI_FN dls_shape dlsi_y_from_x(const dls_op_site *site, dls_op_spec *spec) {
    spec->y = site->x[0];
    spec->dtype = DLS_F32;
    return spec->y;
}
/* Every op but embedding wants reals. */
DLSI_FN dls_status dlsi_need_reals(const dls_op_site *site) {
    int32_t i;
    for (i = 0; i < site->inputs; i++) {
        if (site->dtype[i] != DLS_F32)
            return dls_op_fail(site, DLS_E_SHAPE,
                               DLSI_MSG("input {0} holds integers; embed them first"), i, 0, 0);
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_need_batched(const dls_op_site *site) {
    if (site->fixed != 0)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("a parameter can only be an operand of add and mul"), 0, 0, 0);
    return dlsi_need_reals(site);
}

/* Activation fused into an op that writes y: its clamp, as the call may override it. */
DLSI_FN void dlsi_call_clamp(const dls_op_call *call, dls_real *lo, dls_real *hi) {
    (void)dlsi_act_clamp(call->act >= 0 ? dlsi_act_of(call->act) : dlsi_attr_act(call->attr), lo,
                         hi);
}
/* Fused activations are those computed from y alone; the rest are ops of their own. */
DLSI_FN dls_status dlsi_need_fusable(const dls_op_site *site) {
    const int32_t act = site->attr->i[DLS_ATTR_ACT] & 255;
    dls_real lo, hi;
    if (act >= (int32_t)DLS_ACT_COUNT || !dlsi_act_clamp((dls_act)act, &lo, &hi))
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("activation {0} cannot be fused; use an act op"), act, 0, 0);
    return DLS_OK;
}

typedef struct dlsi_ew { /* elementwise job */
    const dls_op_call *call;
    const dls_real *a, *b;
    dls_real *y;
    dls_act act;
    float slope;
    dls_real lo, hi;
    bool add;
} dlsi_ew;
DLSI_FN void dlsi_act_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_ew *e = (const dlsi_ew *)arg;
    (void)thread;
    DLSI_K(e->call->cx, act, e->act, e->slope, e->a + first, e->y + first, count);
}
DLSI_FN void dlsi_act_grad_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_ew *e = (const dlsi_ew *)arg;
    (void)thread;
    DLSI_K(e->call->cx, act_grad, e->act, e->slope, e->a + first, e->b + first, e->y + first, count,
           e->add);
}
/* Turns dy, in place, into the gradient before a fused activation. */
DLSI_FN void dlsi_fused_act_grad(const dls_op_call *call) {
    const dls_act act = dlsi_attr_act(call->attr);
    dlsi_ew e;
    if (act == DLS_ACT_NONE) return;
    DLSI_ZERO(e);
    e.call = call;
    e.a = (const dls_real *)call->y;
    e.b = call->dy;
    e.y = call->dy;
    e.act = act;
    dlsi_par_spans(call->cx, (size_t)call->n * dlsi_count(call->ys), DLSI_GRAIN, dlsi_act_grad_span,
                   &e);
}
/* dst = src, or dst += src. */
DLSI_FN void dlsi_put(const dls_cx *cx, const dls_real *src, dls_real *dst, size_t count,
                      bool add) {
    if (!add && src != dst)
        memcpy(dst, src, count * sizeof *dst);
    else if (add)
        DLSI_K(cx, axpby, (dls_real)1, src, (dls_real)1, dst, count);
}

/* ---- Sums over rows, in parts with fixed borders, so that threads do not change them ---- */

typedef struct dlsi_colsum {
    const dls_cx *cx;
    const dls_real *x;
    dls_real *part;
    size_t rows, per_part;
    int32_t c;
} dlsi_colsum;
DLSI_FN size_t dlsi_colsum_rows(size_t rows) { return dlsi_max_size(256, (rows + 15) / 16); }
DLSI_FN size_t dlsi_colsum_parts(size_t rows) {
    const size_t per = dlsi_colsum_rows(rows);
    return (rows + per - 1) / per;
}
DLSI_FN void dlsi_colsum_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_colsum *s = (const dlsi_colsum *)arg;
    const size_t first = (size_t)task * s->per_part;
    (void)thread;
    DLSI_K(s->cx, col_sum, s->x + first * (size_t)s->c, dlsi_min_size(s->per_part, s->rows - first),
           s->c, s->part + (size_t)task * (size_t)s->c, false);
}
/* sum (+)= column sums of x, rows x c. part: dlsi_colsum_parts(rows) x c reals. */
DLSI_FN void dlsi_col_sum(const dls_cx *cx, const dls_real *x, size_t rows, int32_t c,
                          dls_real *part, dls_real *sum, bool add) {
    const size_t parts = dlsi_colsum_parts(rows);
    dlsi_colsum s;
    s.cx = cx;
    s.x = x;
    s.part = part;
    s.rows = rows;
    s.per_part = dlsi_colsum_rows(rows);
    s.c = c;
    dls_parallel_for(cx->pool, (int32_t)parts, dlsi_colsum_task, &s);
    DLSI_K(cx, col_sum, part, parts, c, sum, add);
}

DLSI_FN void dlsi_ready(const dls_op_call *call, int32_t param, size_t count) {
    if (call->ready != NULL) call->ready(call->ready_user, call->dw[param], count);
}

DLS_API void dls_softmax(const dls_real *z, int32_t n, double temperature, dls_real *p) {
    double most = (double)z[0], sum = 0.0;
    int32_t i;
    for (i = 1; i < n; i++) most = (double)z[i] > most ? (double)z[i] : most;
    for (i = 0; i < n; i++) sum += dlsi_exp(((double)z[i] - most) / temperature);
    for (i = 0; i < n; i++) p[i] = (dls_real)(dlsi_exp(((double)z[i] - most) / temperature) / sum);
}

/* ---- input, param: no computation; the executor knows them ----  i: h, w, c, dtype */

DLSI_FN dls_status dlsi_input_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_attr *a = site->attr;
    spec->y = dlsi_shape(a->i[0], a->i[1], a->i[2]);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("axes {0} x {1} x {2} must be at least 1 and not too many"),
                           a->i[0], a->i[1], a->i[2]);
    if (a->i[3] != (int32_t)DLS_F32 && a->i[3] != (int32_t)DLS_I32)
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("dtype {0} cannot be an input"), a->i[3], 0,
                           0);
    spec->dtype = (dls_dtype)a->i[3];
    return DLS_OK;
}
DLS_API const dls_op *dls_op_input(void) {
    static const dls_op row = {"input", 0,    0,   DLS_MERGE_NONE, dlsi_input_shape, NULL,
                               NULL,    NULL, NULL};
    return &row;
}
DLSI_FN dls_status dlsi_paramop_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_attr *a = site->attr;
    const float dev = a->f[0];
    dls_status st = dlsi_input_shape(site, spec);
    if (st != DLS_OK) return st;
    spec->dtype = DLS_F32;
    spec->fixed = true;
    dlsi_param(spec, "param", 1, a->i[0], a->i[1], a->i[2],
               dev > 0 ? DLS_INIT_NORMAL : DLS_INIT_ZERO, dev, 0);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_param(void) {
    static const dls_op row = {"param", 0,    0,   DLS_MERGE_NONE, dlsi_paramop_shape, NULL,
                               NULL,    NULL, NULL};
    return &row;
}

/* ---- linear ----  i: units, no_bias; act.  y = act(x w + b) on rows of c */

DLSI_FN void dlsi_linear_gemm(const dls_op_site *s, const dls_op_spec *spec, int32_t k,
                              dlsi_gemm *fwd, dlsi_gemm *dx, dlsi_gemm *dw) {
    const int32_t rows = s->batch * s->x[0].h * s->x[0].w, units = spec->y.c;
    memset(fwd, 0, sizeof *fwd);
    fwd->m = rows;
    fwd->n = units;
    fwd->k = k;
    fwd->b_k = units;
    fwd->b_col = 1;
    *dx = *fwd;
    dx->n = k;
    dx->k = units;
    dx->b_k = 1;
    dx->b_col = units;
    *dw = *fwd;
    dw->m = k;
    dw->k = rows;
}
/* Inference packs B unless scalar code reads it as it is. */
DLSI_FN bool dlsi_packs(const dls_op_site *site) {
    return site->cx != NULL && !site->train && DLSI_K_VW(site->cx) > 1;
}
DLSI_FN dls_status dlsi_linear_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t units = site->attr->i[0], c = site->x[0].c;
    dls_status st = dlsi_need_batched(site);
    if (st == DLS_OK) st = dlsi_need_fusable(site);
    if (st != DLS_OK) return st;
    spec->y = dlsi_shape(site->x[0].h, site->x[0].w, units);
    if (units < 1 || !dlsi_fits(units, c) || dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("{0} units on {1} channels: too few or too many"), units, c, 0);
    dlsi_param(spec, "weight", 1, 1, c, units, DLS_INIT_UNIFORM, dlsi_he(c), 0);
    if (site->attr->i[1] == 0)
        dlsi_param(spec, "bias", 1, 1, 1, units, DLS_INIT_ZERO, 0, DLS_PARAM_NO_DECAY);
    spec->macs = DLSI_MACS((double)site->x[0].h * site->x[0].w * c * units);
    spec->keep_x = 1;
    spec->residual = c <= DLSI_KC;
    spec->keep_y = dlsi_attr_act(site->attr) != DLS_ACT_NONE;
    if (site->cx != NULL) {
        dlsi_gemm fwd, dx, dw;
        const size_t rows = (size_t)site->batch * (size_t)site->x[0].h * (size_t)site->x[0].w;
        const int32_t nr = DLSI_K_NR(site->cx);
        dlsi_linear_gemm(site, spec, c, &fwd, &dx, &dw);
        fwd.b_packed = dlsi_packs(site);
        spec->work = dlsi_gemm_work(site->cx, &fwd);
        if (fwd.b_packed)
            spec->packed = dlsi_reals((size_t)(dlsi_ceil_div(units, nr) * nr) * ((size_t)c + 1));
        if (DLSI_TRAINS(site)) {
            spec->work = dlsi_max_size(spec->work, dlsi_gemm_work(site->cx, &dx));
            spec->work = dlsi_max_size(spec->work, dlsi_gemm_work(site->cx, &dw));
            spec->work =
                dlsi_max_size(spec->work, dlsi_reals(dlsi_colsum_parts(rows) * (size_t)units));
        }
    }
    return DLS_OK;
}
/* Columns of packed panels (k rows each) times scale, and the bias after them. */
DLSI_FN void dlsi_pack_affine(const dls_cx *cx, dls_real *panels, size_t k, int32_t n,
                              const dls_real *bias, const dls_real *scale, const dls_real *shift,
                              dls_real *packed_bias) {
    const int32_t nr = DLSI_K_NR(cx);
    int32_t j;
    size_t p;
    for (j = 0; j < n; j++) {
        dls_real *column = panels + (size_t)(j / nr) * k * (size_t)nr + j % nr, b = (dls_real)0;
        if (bias != NULL) b = bias[j];
        if (scale != NULL) {
            for (p = 0; p < k; p++) column[p * (size_t)nr] *= scale[j];
            b = b * scale[j] + shift[j];
        }
        packed_bias[j] = b;
    }
}
DLSI_FN void dlsi_linear_pack(const dls_op_call *call, const dls_real *scale, const dls_real *shift,
                              void *packed) {
    const int32_t nr = DLSI_K_NR(call->cx), k = call->xs[0].c, n = call->ys.c;
    dls_real *panels = (dls_real *)packed;
    DLSI_K(call->cx, pack, call->w[0], n, 1, k, n, panels, (ptrdiff_t)k * nr);
    dlsi_pack_affine(call->cx, panels, (size_t)k, n, call->w[1], scale, shift,
                     panels + (size_t)(dlsi_ceil_div(n, nr) * nr) * (size_t)k);
}
DLSI_FN dls_status dlsi_linear_forward(const dls_op_call *call) {
    const int32_t k = call->xs[0].c, n = call->ys.c, nr = DLSI_K_NR(call->cx);
    dlsi_gemm g;
    DLSI_ZERO(g);
    g.a = (const dls_real *)call->x[0];
    g.a_row = k;
    g.a_k = 1;
    g.b = call->w[0];
    g.b_k = n;
    g.b_col = 1;
    g.bias = call->w[1];
    g.c = (dls_real *)call->y;
    g.ldc = n;
    g.res = call->residual;
    g.m = call->n * call->xs[0].h * call->xs[0].w;
    g.n = n;
    g.k = k;
    dlsi_call_clamp(call, &g.lo, &g.hi);
    if (call->packed != NULL) {
        g.b = (const dls_real *)call->packed;
        g.b_packed = true;
        g.bias = g.b + (size_t)(dlsi_ceil_div(n, nr) * nr) * (size_t)k;
    }
    dlsi_gemm_run(call->cx, &g, call->work, NULL, NULL);
    return DLS_OK;
}
/* dx = dy w^T, dw = x^T dy, db = column sums of dy; w is k x n, rows of x and dy are m. */
DLSI_FN void dlsi_linear_grads(const dls_op_call *call, const dls_real *w, dls_real *dw,
                               dls_real *db, int32_t m, int32_t k, int32_t n) {
    dlsi_gemm g;
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    if (call->dx[0] != NULL) {
        g.a = call->dy;
        g.a_row = n;
        g.a_k = 1;
        g.b = w;
        g.b_k = 1;
        g.b_col = n;
        g.c = call->dx[0];
        g.ldc = k;
        g.m = m;
        g.n = k;
        g.k = n;
        g.res = (call->dx_add & 1u) != 0 ? g.c : NULL;
        dlsi_gemm_run(call->cx, &g, call->work, NULL, NULL);
    }
    if (dw != NULL) {
        g.a = (const dls_real *)call->x[0];
        g.a_row = 1;
        g.a_k = k;
        g.b = call->dy;
        g.b_k = n;
        g.b_col = 1;
        g.c = dw;
        g.ldc = n;
        g.m = k;
        g.n = n;
        g.k = m;
        g.res = call->dw_add ? dw : NULL;
        dlsi_gemm_run(call->cx, &g, call->work, call->ready, call->ready_user);
    }
    if (db != NULL) {
        dlsi_col_sum(call->cx, call->dy, (size_t)m, n, (dls_real *)call->work, db, call->dw_add);
        if (call->ready != NULL) call->ready(call->ready_user, db, (size_t)n);
    }
}
DLSI_FN dls_status dlsi_linear_backward(const dls_op_call *call) {
    dlsi_fused_act_grad(call);
    dlsi_linear_grads(call, call->w[0], call->dw[0], call->dw[1],
                      call->n * call->xs[0].h * call->xs[0].w, call->xs[0].c, call->ys.c);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_linear(void) {
    static const dls_op row = {"linear",
                               1,
                               1,
                               DLS_MERGE_HEAD,
                               dlsi_linear_shape,
                               dlsi_linear_forward,
                               DLSI_BACKWARD(dlsi_linear_backward),
                               DLSI_PACKING(dlsi_linear_pack),
                               NULL};
    return &row;
}

/* ---- tied_linear ----  y = x table^T; input 1 is the embedding whose table it is (its first
   parameter stands in for w[0]: vocabulary x dim). i: vocabulary */

DLSI_FN dls_status dlsi_tied_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t v = site->attr->i[0], c = site->x[0].c;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (site->x[1].c != c)
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("{0} channels, but the tied table has {1}"),
                           c, site->x[1].c, 0);
    spec->y = dlsi_shape(site->x[0].h, site->x[0].w, v);
    if (v < 1 || !dlsi_fits(v, c) || dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("a vocabulary of {0} is too small or too large"), v, 0, 0);
    spec->macs = DLSI_MACS((double)site->x[0].h * site->x[0].w * c * v);
    spec->keep_x = 1;
    spec->tied = 2;
    spec->tied_count = (size_t)v * (size_t)c;
    if (site->cx != NULL) {
        dlsi_gemm fwd, dx, dw;
        dlsi_linear_gemm(site, spec, c, &fwd, &dx, &dw);
        fwd.b_k = 1;
        fwd.b_col = c;
        dx.b_k = c;
        dx.b_col = 1;
        dw.m = v;
        dw.n = c;
        spec->work = dlsi_gemm_work(site->cx, &fwd);
        if (DLSI_TRAINS(site)) {
            spec->work = dlsi_max_size(spec->work, dlsi_gemm_work(site->cx, &dx));
            spec->work = dlsi_max_size(spec->work, dlsi_gemm_work(site->cx, &dw));
        }
    }
    return DLS_OK;
}
DLSI_FN void dlsi_tied_gemm(const dls_op_call *call, dlsi_gemm *g) {
    memset(g, 0, sizeof *g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g->lo, &g->hi);
    g->m = call->n * call->xs[0].h * call->xs[0].w;
}
DLSI_FN dls_status dlsi_tied_forward(const dls_op_call *call) {
    dlsi_gemm g;
    dlsi_tied_gemm(call, &g);
    g.a = (const dls_real *)call->x[0];
    g.a_row = call->xs[0].c;
    g.a_k = 1;
    g.b = call->w[0];
    g.b_k = 1;
    g.b_col = call->xs[0].c;
    g.c = (dls_real *)call->y;
    g.ldc = g.n = call->ys.c;
    g.k = call->xs[0].c;
    dlsi_gemm_run(call->cx, &g, call->work, NULL, NULL);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_tied_backward(const dls_op_call *call) {
    const int32_t c = call->xs[0].c, v = call->ys.c;
    dlsi_gemm g;
    dlsi_tied_gemm(call, &g);
    if (call->dx[0] != NULL) { /* dx = dy table */
        g.a = call->dy;
        g.a_row = v;
        g.a_k = 1;
        g.b = call->w[0];
        g.b_k = c;
        g.b_col = 1;
        g.c = call->dx[0];
        g.ldc = g.n = c;
        g.k = v;
        g.res = (call->dx_add & 1u) != 0 ? g.c : NULL;
        dlsi_gemm_run(call->cx, &g, call->work, NULL, NULL);
    }
    if (call->dw[0] != NULL) { /* dtable = dy^T x */
        g.k = call->n * call->xs[0].h * call->xs[0].w;
        g.a = call->dy;
        g.a_row = 1;
        g.a_k = v;
        g.b = (const dls_real *)call->x[0];
        g.b_k = c;
        g.b_col = 1;
        g.c = call->dw[0];
        g.ldc = g.n = c;
        g.m = v;
        g.res = call->dw_add ? g.c : NULL;
        dlsi_gemm_run(call->cx, &g, call->work, call->ready, call->ready_user);
    }
    return DLS_OK;
}
DLS_API const dls_op *dls_op_tied_linear(void) {
    static const dls_op row = {"tied_linear",
                               2,
                               2,
                               DLS_MERGE_NONE,
                               dlsi_tied_shape,
                               dlsi_tied_forward,
                               DLSI_BACKWARD(dlsi_tied_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- matmul ----  i: b_transposed.  Per sample and row h: a (w x c) times b */

typedef struct dlsi_matmul {
    const dls_op_call *call;
    size_t a, b, y; /* elements of one product's operands */
    int32_t m, n, k;
    bool transposed, backward;
} dlsi_matmul;
DLSI_FN dls_status dlsi_matmul_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_shape a = site->x[0], b = site->x[1];
    const bool t = site->attr->i[0] != 0;
    const int32_t inner = t ? b.c : b.w, n = t ? b.w : b.c;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (a.c != inner || a.h != b.h)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("inner axes {0} and {1} differ, or the rows ({2} of a)"), a.c,
                           inner, a.h);
    spec->y = dlsi_shape(a.h, a.w, n);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("the product of {0} x {1} is too large"),
                           a.w, n, 0);
    spec->macs = DLSI_MACS((double)a.h * a.w * a.c * n);
    spec->keep_x = 3;
    if (site->cx != NULL) {
        dlsi_gemm g;
        DLSI_ZERO(g);
        g.m = g.n = g.k = dlsi_max_i32(a.w, dlsi_max_i32(a.c, n)); /* any of the three products */
        g.b_col = 2;
        spec->work_thread = dlsi_reals(dlsi_gemm_thread_reals(site->cx, &g));
    }
    return DLS_OK;
}
/* One product of a gradient or of forward: c (m x n) (+)= a b. */
DLSI_FN void dlsi_matmul_one(const dlsi_matmul *t, const dls_real *a, ptrdiff_t a_row,
                             ptrdiff_t a_k, const dls_real *b, ptrdiff_t b_k, ptrdiff_t b_col,
                             dls_real *c, int32_t m, int32_t n, int32_t k, bool add,
                             int32_t thread) {
    dlsi_gemm g;
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a = a;
    g.a_row = a_row;
    g.a_k = a_k;
    g.b = b;
    g.b_k = b_k;
    g.b_col = b_col;
    g.c = c;
    g.ldc = n;
    g.m = m;
    g.n = n;
    g.k = k;
    g.res = add ? c : NULL;
    DLSI_K(t->call->cx, gemm, &g, (dls_real *)dls_op_scratch(t->call, thread));
}
DLSI_FN void dlsi_matmul_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_matmul *t = (const dlsi_matmul *)arg;
    const dls_op_call *call = t->call;
    const size_t i = (size_t)task;
    const dls_real *a = (const dls_real *)call->x[0] + i * t->a,
                   *b = (const dls_real *)call->x[1] + i * t->b;
    const ptrdiff_t b_k = t->transposed ? 1 : t->n, b_col = t->transposed ? t->k : 1;
    if (!t->backward) {
        dlsi_matmul_one(t, a, t->k, 1, b, b_k, b_col, (dls_real *)call->y + i * t->y, t->m, t->n,
                        t->k, false, thread);
        return;
    }
    if (call->dx[0] != NULL) /* da = dy b^T */
        dlsi_matmul_one(t, call->dy + i * t->y, t->n, 1, b, b_col, b_k, call->dx[0] + i * t->a,
                        t->m, t->k, t->n, (call->dx_add & 1u) != 0, thread);
    if (call->dx[1] != NULL && !t->transposed) /* db = a^T dy */
        dlsi_matmul_one(t, a, 1, t->k, call->dy + i * t->y, t->n, 1, call->dx[1] + i * t->b, t->k,
                        t->n, t->m, (call->dx_add & 2u) != 0, thread);
    if (call->dx[1] != NULL && t->transposed) /* db = dy^T a */
        dlsi_matmul_one(t, call->dy + i * t->y, 1, t->n, a, t->k, 1, call->dx[1] + i * t->b, t->n,
                        t->k, t->m, (call->dx_add & 2u) != 0, thread);
}
DLSI_FN void dlsi_matmul_run(const dls_op_call *call, bool backward) {
    dlsi_matmul t;
    t.call = call;
    t.transposed = call->attr->i[0] != 0;
    t.backward = backward;
    t.m = call->xs[0].w;
    t.k = call->xs[0].c;
    t.n = call->ys.c;
    t.a = (size_t)t.m * (size_t)t.k;
    t.b = (size_t)t.k * (size_t)t.n;
    t.y = (size_t)t.m * (size_t)t.n;
    dls_parallel_for(call->cx->pool, call->n * call->xs[0].h, dlsi_matmul_task, &t);
}
DLSI_FN dls_status dlsi_matmul_forward(const dls_op_call *call) {
    dlsi_matmul_run(call, false);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_matmul_backward(const dls_op_call *call) {
    dlsi_matmul_run(call, true);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_matmul(void) {
    static const dls_op row = {"matmul",
                               2,
                               2,
                               DLS_MERGE_NONE,
                               dlsi_matmul_shape,
                               dlsi_matmul_forward,
                               DLSI_BACKWARD(dlsi_matmul_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- conv2d, conv_transpose ----  i, pairs as (h, w): channels; kernel; stride; dilation; padding
   (top, left); padding (bottom, right); groups; act + no_bias << 8 + output padding << 16, << 24 */

enum {
    DLSI_CONV_C,
    DLSI_CONV_K,
    DLSI_CONV_S,
    DLSI_CONV_D,
    DLSI_CONV_P0,
    DLSI_CONV_P1,
    DLSI_CONV_G,
    DLSI_CONV_F = DLS_ATTR_ACT
};

typedef enum dlsi_method {
    DLSI_DIRECT, /* any */
    DLSI_POINT,  /* 1x1, stride 1: a matrix product */
    DLSI_PATCH,  /* few channels: patches copied side by side, then a product */
    DLSI_WINO,   /* 3x3, stride 1 */
    DLSI_DEPTH   /* one filter per channel */
} dlsi_method;

/* Geometry of a convolution from x (h, w, c) to y (oh, ow, oc). For the transposed op, y is its
   input. */
typedef struct dlsi_conv {
    const dls_cx *cx;
    int32_t n, h, w, c, oh, ow, oc, kh, kw, sh, sw, dh, dw, groups, pt, pl;
    int32_t cg, og; /* channels of a group, in and out */
    dlsi_method method;
} dlsi_conv;

/* Scalar code knows neither, so that they and what they need are not linked. */
#define DLSI_IS_PATCH(v) (DLSI_VARIANTS > 1 && (v)->method == DLSI_PATCH)
#define DLSI_IS_WINO(v) (DLSI_VARIANTS > 1 && (v)->method == DLSI_WINO)
DLSI_FN dlsi_method dlsi_conv_method(const dlsi_conv *v) {
    const bool one_group = v->groups == 1,
               plain = v->sh == 1 && v->sw == 1 && v->dh == 1 && v->dw == 1;
    if (v->groups > 1 && v->cg == 1 && v->og == 1) return DLSI_DEPTH;
    if (!one_group) return DLSI_DIRECT;
    if (v->kh == 1 && v->kw == 1 && plain && v->pt == 0 && v->pl == 0 && v->oh == v->h &&
        v->ow == v->w)
        return DLSI_POINT;
    if (v->cx == NULL || DLSI_K_VW(v->cx) == 1) return DLSI_DIRECT;
    if (v->c <= 4 && v->kh * v->kw <= 256) return DLSI_PATCH;
    if (DLSI_K_FAST_CONV(v->cx) && v->kh == 3 && v->kw == 3 && plain && v->c >= 8 && v->oc >= 8)
        return DLSI_WINO;
    return DLSI_DIRECT;
}
/* Reads the attributes; x and y as the plain convolution sees them. */
DLSI_FN void dlsi_conv_geometry(dlsi_conv *v, const dls_cx *cx, const dls_attr *a, int32_t n,
                                dls_shape x, dls_shape y) {
    v->cx = cx;
    v->n = n;
    v->h = x.h;
    v->w = x.w;
    v->c = x.c;
    v->oh = y.h;
    v->ow = y.w;
    v->oc = y.c;
    v->kh = dlsi_low(a->i[DLSI_CONV_K]);
    v->kw = dlsi_high(a->i[DLSI_CONV_K]);
    v->sh = dlsi_low(a->i[DLSI_CONV_S]);
    v->sw = dlsi_high(a->i[DLSI_CONV_S]);
    v->dh = dlsi_low(a->i[DLSI_CONV_D]);
    v->dw = dlsi_high(a->i[DLSI_CONV_D]);
    v->pt = dlsi_low(a->i[DLSI_CONV_P0]);
    v->pl = dlsi_high(a->i[DLSI_CONV_P0]);
    v->groups = a->i[DLSI_CONV_G];
    v->cg = v->c / v->groups;
    v->og = v->oc / v->groups;
    v->method = dlsi_conv_method(v);
}

/* ---- Sizes and blocks; functions of shapes only, so that bits do not depend on threads ---- */

#define DLSI_WINO_BUDGET 98304 /* reals of transformed tiles in flight: in the second-level cache */
DLSI_FN int32_t dlsi_wino_tiles(const dlsi_conv *v) {
    return dlsi_ceil_div(v->oh, 4) * dlsi_ceil_div(v->ow, 4);
}
DLSI_FN int32_t dlsi_wino_block(const dlsi_conv *v) {
    const int64_t tile = (int64_t)DLSI_WINO_POINTS * ((int64_t)v->c + v->oc);
    const int32_t fit = (tile > DLSI_WINO_BUDGET ? 0 : DLSI_WINO_BUDGET / (int32_t)tile) / 14 * 14;
    return dlsi_max_i32(14, dlsi_min_i32(fit, 112));
}
DLSI_FN size_t dlsi_wino_filter_reals(const dlsi_conv *v, int32_t k, int32_t n) {
    const int32_t nr = DLSI_K_NR(v->cx);
    return (size_t)DLSI_WINO_POINTS * (size_t)k * (size_t)(dlsi_ceil_div(n, nr) * nr);
}
/* Filters as the forward kernels want them. */
DLSI_FN size_t dlsi_conv_packed_reals(const dlsi_conv *v) {
    const size_t taps = (size_t)v->kh * (size_t)v->kw;
    const int32_t nr = DLSI_K_NR(v->cx);
    if (v->method == DLSI_DEPTH) return taps * (size_t)v->c;
    if (DLSI_IS_WINO(v)) return dlsi_wino_filter_reals(v, v->c, v->oc);
    return (size_t)v->groups * (size_t)(dlsi_ceil_div(v->og, nr) * nr) * taps * (size_t)v->cg;
}
/* Filters, flipped and transposed, as the gradient by x wants them. */
DLSI_FN size_t dlsi_conv_flipped_reals(const dlsi_conv *v) {
    const int32_t nr = DLSI_K_NR(v->cx);
    if (DLSI_IS_WINO(v)) return dlsi_wino_filter_reals(v, v->oc, v->c);
    if (v->method == DLSI_DEPTH) return (size_t)v->kh * (size_t)v->kw * (size_t)v->c;
    return (size_t)v->groups * (size_t)(dlsi_ceil_div(v->cg, nr) * nr) * (size_t)(v->kh * v->kw) *
           (size_t)v->og;
}
/* Output rows of patches copied at a time: about 32 KB. */
DLSI_FN int32_t dlsi_patch_rows(const dlsi_conv *v) {
    const int64_t row = (int64_t)v->ow * v->kh * v->kw * v->c;
    return dlsi_max_i32(1, dlsi_min_i32(v->oh, row > 8192 ? 0 : 8192 / (int32_t)row));
}
DLSI_FN size_t dlsi_patch_reals(const dlsi_conv *v) {
    return (size_t)dlsi_patch_rows(v) * (size_t)v->ow * (size_t)(v->kh * v->kw) * (size_t)v->c;
}
DLSI_FN size_t dlsi_conv_weights(const dlsi_conv *v) {
    return (size_t)v->kh * (size_t)v->kw * (size_t)v->cg * (size_t)v->oc;
}
/* Gradients of weights are summed in this many parts of the batch, each by one thread, then added.
   */
DLSI_FN int32_t dlsi_conv_parts(const dlsi_conv *v) {
    const size_t fit = ((size_t)1 << 20) / (dlsi_conv_weights(v) + (size_t)v->oc);
    return dlsi_min_i32(v->n, dlsi_max_i32(1, (int32_t)dlsi_min_size(fit, 8)));
}
DLSI_FN size_t dlsi_conv_part_reals(const dlsi_conv *v) {
    return dlsi_round_up(dlsi_conv_weights(v) + (size_t)v->oc, 16);
}
DLSI_FN size_t dlsi_conv_scratch_reals(const dlsi_conv *v, bool train) {
    size_t block;
    dlsi_gemm g;
    DLSI_ZERO(g);
    if (DLSI_IS_PATCH(v)) {
        g.m = g.k = dlsi_max_i32(v->kh * v->kw * v->c, dlsi_patch_rows(v) * v->ow);
        g.n = v->oc;
        g.b_col = 1;
        g.b_packed = !train;
        return dlsi_round_up(dlsi_patch_reals(v), 16) + dlsi_gemm_thread_reals(v->cx, &g);
    }
    if (v->method != DLSI_WINO) return 0;
    block = (size_t)dlsi_wino_block(v) * DLSI_WINO_POINTS * (size_t)(v->c + v->oc);
    g.m = dlsi_max_i32(dlsi_wino_block(v), dlsi_max_i32(v->c, v->oc)); /* the widest product */
    g.n = v->oc;
    g.k = dlsi_wino_block(v);
    g.b_col = 1;
    g.b_k = v->oc;
    return dlsi_round_up(block, 16) + dlsi_gemm_thread_reals(v->cx, &g) +
           (train ? dlsi_round_up((size_t)DLSI_WINO_POINTS * (size_t)v->c * (size_t)v->oc, 16) : 0);
}

/* ---- Pieces: one image's rows as a correlation ---- */

DLSI_FN void dlsi_conv_corr(const dlsi_conv *v, int32_t image, int32_t group, const dls_real *x,
                            dls_real *y, dlsi_corr *g) {
    memset(g, 0, sizeof *g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g->lo, &g->hi);
    g->x_pix = v->c;
    g->x_row = (ptrdiff_t)v->w * v->c;
    g->y_pix = v->oc;
    g->y_row = (ptrdiff_t)v->ow * v->oc;
    g->x = x + (ptrdiff_t)image * v->h * g->x_row + (ptrdiff_t)group * v->cg;
    g->y = y + (ptrdiff_t)image * v->oh * g->y_row + (ptrdiff_t)group * v->og;
    g->h = v->h;
    g->w = v->w;
    g->c = v->method == DLSI_DEPTH ? v->c : v->cg;
    g->oh = v->oh;
    g->ow = v->ow;
    g->oc = v->og;
    g->kh = v->kh;
    g->kw = v->kw;
    g->sh = v->sh;
    g->sw = v->sw;
    g->dh = v->dh;
    g->dw = v->dw;
    g->pt = v->pt;
    g->pl = v->pl;
}
/* Patches of output rows [y0, y1), one row of `to` per tap and channel, one column per output
   pixel; zeros outside the image. */
DLSI_FN void dlsi_conv_patches(const dlsi_conv *v, const dls_real *x, int32_t y0, int32_t y1,
                               dls_real *to) {
    const int32_t step = v->sw * v->c;
    int32_t r, s, c, y, j, first, end;
    for (r = 0; r < v->kh; r++) {
        for (s = 0; s < v->kw; s++) {
            dlsi_tap_range(v->w, v->ow, s, v->sw, v->dw, v->pl, &first, &end);
            for (c = 0; c < v->c; c++) {
                for (y = y0; y < y1; y++, to += v->ow) {
                    const int32_t row = y * v->sh + r * v->dh - v->pt;
                    const bool inside = row >= 0 && row < v->h && end > first;
                    const int32_t from = inside ? first : v->ow, stop = inside ? end : v->ow;
                    const ptrdiff_t at = ((ptrdiff_t)row * v->w + s * v->dw - v->pl) * v->c + c;
                    for (j = 0; j < from; j++) to[j] = (dls_real)0;
                    if (step == 1 && stop > from)
                        memcpy(to + from, x + (at + from), (size_t)(stop - from) * sizeof *to);
                    else
                        for (j = from; j < stop; j++) to[j] = x[at + (ptrdiff_t)j * step];
                    for (j = stop; j < v->ow; j++) to[j] = (dls_real)0;
                }
            }
        }
    }
}

typedef struct dlsi_conv_job {
    dlsi_conv v;
    const dls_op_call *call;
    const dls_real *x, *filters, *bias, *res;
    dls_real *y, *dy, *part;
    dls_real lo, hi;
    ptrdiff_t b_k, b_panel, b_group; /* of filters */
    int32_t blocks, rows;            /* tasks of an image, output rows of each */
    int32_t parts, slices;           /* of a weight gradient: by images, by output channels */
    int32_t py, px;                  /* phase of a strided gradient by x */
    bool flip;                       /* Winograd: gradient by x */
} dlsi_conv_job;

/* Output rows [y0, y1) of one image, in blocks whose input stays in the cache. */
DLSI_FN void dlsi_conv_rows(const dlsi_conv_job *job, const dlsi_conv *v, dlsi_corr *g, int32_t y0,
                            int32_t y1) {
    const int32_t nr = DLSI_K_NR(v->cx),
                  fit = 32768 / (int32_t)dlsi_min_size((size_t)g->x_row, 32768);
    const int32_t step = dlsi_max_i32(1, fit / g->sh);
    int32_t y;
    (void)job;
    for (y = y0; y < y1; y += step)
        DLSI_K(v->cx, corr, g, y, dlsi_min_i32(y1, y + step), 0, dlsi_ceil_div(g->oc, nr));
}
DLSI_FN void dlsi_conv_direct_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_conv_job *job = (const dlsi_conv_job *)arg;
    const dlsi_conv *v = &job->v;
    const int32_t image = task / job->blocks, y0 = task % job->blocks * job->rows;
    const int32_t y1 = dlsi_min_i32(v->oh, y0 + job->rows);
    int32_t group;
    (void)thread;
    for (group = 0; group < (v->method == DLSI_DEPTH ? 1 : v->groups); group++) {
        dlsi_corr g;
        dlsi_conv_corr(v, image, group, job->x, job->y, &g);
        g.lo = job->lo;
        g.hi = job->hi;
        g.b = job->filters + group * job->b_group;
        g.b_k = job->b_k;
        g.b_panel = job->b_panel;
        if (job->bias != NULL) g.bias = job->bias + group * v->og;
        if (job->res != NULL) g.res = job->res + (g.y - job->y);
        if (v->method == DLSI_DEPTH)
            DLSI_K(v->cx, depthwise, &g, y0, y1);
        else
            dlsi_conv_rows(job, v, &g, y0, y1);
    }
}
DLSI_FN void dlsi_conv_patch_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_conv_job *job = (const dlsi_conv_job *)arg;
    const dlsi_conv *v = &job->v;
    const int32_t image = task / job->blocks, y0 = task % job->blocks * job->rows;
    const int32_t y1 = dlsi_min_i32(v->oh, y0 + job->rows), step = dlsi_patch_rows(v);
    dls_real *patches = (dls_real *)dls_op_scratch(job->call, thread);
    dls_real *work = patches + dlsi_round_up(dlsi_patch_reals(v), 16);
    int32_t y;
    dlsi_gemm g;
    DLSI_ZERO(g);
    g.k = v->kh * v->kw * v->c;
    g.n = v->oc;
    g.a_row = 1;
    g.b = job->filters;
    g.b_packed = true;
    g.bias = job->bias;
    g.ldc = v->oc;
    g.lo = job->lo;
    g.hi = job->hi;
    g.a = patches;
    for (y = y0; y < y1; y += step) {
        const int32_t end = dlsi_min_i32(y1, y + step);
        dlsi_conv_patches(v, job->x + (ptrdiff_t)image * v->h * v->w * v->c, y, end, patches);
        g.a_k = g.m = (end - y) * v->ow;
        g.c = job->y + ((ptrdiff_t)image * v->oh + y) * v->ow * v->oc;
        g.res = job->res != NULL ? job->res + (g.c - job->y) : NULL;
        DLSI_K(v->cx, gemm, &g, work);
    }
}
/* ---- Winograd; builds with scalar kernels alone never choose it ---- */

#if DLSI_VARIANTS > 1
/* Filters transformed: for the convolution, or (flipped, channels and outputs exchanged) its
   gradient. */
DLSI_FN void dlsi_wino_filters(const dlsi_conv *v, const dls_real *w, bool flip, dls_real *dst) {
    DLSI_K(v->cx, wino_filter, w, (ptrdiff_t)v->c * v->oc, flip ? 1 : v->oc, flip ? v->oc : 1, flip,
           flip ? v->oc : v->c, flip ? v->c : v->oc, dst);
}
/* Tiles [t0, t1) of a Winograd convolution; job->v is the geometry of what is computed. */
DLSI_FN void dlsi_conv_wino_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_conv_job *job = (const dlsi_conv_job *)arg;
    const dlsi_conv *v = &job->v;
    const int32_t all = v->n * dlsi_wino_tiles(v), t0 = task * job->rows;
    const int32_t t1 = dlsi_min_i32(all, t0 + job->rows), tiles = t1 - t0;
    const size_t point = dlsi_wino_filter_reals(v, v->c, v->oc) / DLSI_WINO_POINTS;
    dls_real *in = (dls_real *)dls_op_scratch(job->call, thread);
    dls_real *out = in + (ptrdiff_t)DLSI_WINO_POINTS * tiles * v->c;
    dls_real *work =
        in + dlsi_round_up((size_t)job->rows * DLSI_WINO_POINTS * (size_t)(v->c + v->oc), 16);
    dlsi_wino w;
    dlsi_gemm g;
    int32_t p;
    DLSI_ZERO(w);
    w.x = job->x;
    w.y = job->y;
    w.bias = job->bias;
    w.res = job->res;
    w.n = v->n;
    w.h = v->h;
    w.w = v->w;
    w.c = v->c;
    w.oh = v->oh;
    w.ow = v->ow;
    w.oc = v->oc;
    w.pt = v->pt;
    w.pl = v->pl;
    w.th = dlsi_ceil_div(v->oh, 4);
    w.tw = dlsi_ceil_div(v->ow, 4);
    w.lo = job->lo;
    w.hi = job->hi;
    DLSI_K(v->cx, wino_gather, &w, t0, t1, in);
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a_row = v->c;
    g.a_k = 1;
    g.b_packed = true;
    g.ldc = v->oc;
    g.m = tiles;
    g.n = v->oc;
    g.k = v->c;
    for (p = 0; p < DLSI_WINO_POINTS; p++) {
        g.a = in + (ptrdiff_t)p * tiles * v->c;
        g.b = job->filters + (size_t)p * point;
        g.c = out + (ptrdiff_t)p * tiles * v->oc;
        DLSI_K(v->cx, gemm, &g, work);
    }
    DLSI_K(v->cx, wino_scatter, &w, t0, t1, out);
}

DLSI_FN void dlsi_conv_dw_wino(const dlsi_conv_job *job, int32_t part, int32_t thread,
                               dls_real *dw) {
    const dlsi_conv *v = &job->v;
    const int32_t all = v->n * dlsi_wino_tiles(v), block = dlsi_wino_block(v);
    const int32_t first = (int32_t)((int64_t)all * part / job->parts);
    const int32_t end = (int32_t)((int64_t)all * (part + 1) / job->parts);
    const size_t tiles = (size_t)block * DLSI_WINO_POINTS, sums = (size_t)v->c * (size_t)v->oc;
    dls_real *in = (dls_real *)dls_op_scratch(job->call, thread), *dys = in + tiles * (size_t)v->c;
    dls_real *sum = in + dlsi_round_up(tiles * (size_t)(v->c + v->oc), 16);
    dls_real *work = sum + dlsi_round_up(DLSI_WINO_POINTS * sums, 16);
    int32_t t, p;
    dlsi_wino w;
    dlsi_gemm g;
    DLSI_ZERO(w);
    w.x = job->x;
    w.y = job->dy;
    w.n = v->n;
    w.h = v->h;
    w.w = v->w;
    w.c = v->c;
    w.oh = v->oh;
    w.ow = v->ow;
    w.oc = v->oc;
    w.pt = v->pt;
    w.pl = v->pl;
    w.th = dlsi_ceil_div(v->oh, 4);
    w.tw = dlsi_ceil_div(v->ow, 4);
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a_row = 1;
    g.a_k = v->c;
    g.b_k = v->oc;
    g.b_col = 1;
    g.ldc = v->oc;
    g.m = v->c;
    g.n = v->oc;
    for (t = first; t < end; t += block) {
        const int32_t stop = dlsi_min_i32(end, t + block);
        DLSI_K(v->cx, wino_gather, &w, t, stop, in);
        DLSI_K(v->cx, wino_gather_dy, &w, t, stop, dys);
        g.k = stop - t;
        g.cont = t > first;
        for (p = 0; p < DLSI_WINO_POINTS; p++) {
            g.a = in + (ptrdiff_t)p * g.k * v->c;
            g.b = dys + (ptrdiff_t)p * g.k * v->oc;
            g.c = sum + (size_t)p * sums;
            DLSI_K(v->cx, gemm, &g, work);
        }
    }
    DLSI_K(v->cx, wino_filter_grad, sum, v->c, v->oc, dw, false);
}
#else
DLSI_FN void dlsi_wino_filters(const dlsi_conv *v, const dls_real *w, bool flip, dls_real *dst) {
    (void)v, (void)w, (void)flip, (void)dst;
}
DLSI_FN void dlsi_conv_wino_task(void *arg, int32_t task, int32_t thread) {
    (void)arg, (void)task, (void)thread;
}
DLSI_FN void dlsi_conv_dw_wino(const dlsi_conv_job *job, int32_t part, int32_t thread,
                               dls_real *dw) {
    (void)job, (void)part, (void)thread, (void)dw;
}
#endif

/* Splits images into enough tasks for the threads. */
DLSI_FN void dlsi_conv_split(dlsi_conv_job *job) {
    const int32_t threads = dls_pool_threads(job->v.cx->pool), want = threads > 1 ? 4 * threads : 1;
    job->blocks = dlsi_min_i32(job->v.oh, dlsi_ceil_div(want, job->v.n));
    job->rows = dlsi_ceil_div(job->v.oh, job->blocks);
    job->blocks = dlsi_ceil_div(job->v.oh, job->rows);
}

/* Filters into kernel order. */
DLSI_FN void dlsi_conv_pack(const dlsi_conv *v, const dls_real *w, dls_real *dst) {
    const int32_t nr = DLSI_K_NR(v->cx), k = v->kh * v->kw * v->cg;
    int32_t group;
    if (v->method == DLSI_DEPTH) {
        memcpy(dst, w, dlsi_conv_packed_reals(v) * sizeof *dst);
        return;
    }
    if (DLSI_IS_WINO(v)) {
        dlsi_wino_filters(v, w, false, dst);
        return;
    }
    for (group = 0; group < v->groups; group++, dst += (ptrdiff_t)dlsi_ceil_div(v->og, nr) * nr * k)
        DLSI_K(v->cx, pack, w + group * v->og, v->oc, 1, k, v->og, dst, (ptrdiff_t)k * nr);
}
/* y = clamp(conv(x, filters) + bias + res). job: v, call, x, y, bias, res, lo, hi set. packed:
   filters in kernel order, or NULL: w is packed into work, unless scalar code reads it in place. */
DLSI_FN void dlsi_conv_forward_run(dlsi_conv_job *job, const dls_real *w, const dls_real *packed,
                                   dls_real *work) {
    const dlsi_conv *v = &job->v;
    const int32_t nr = DLSI_K_NR(v->cx), k = v->kh * v->kw * v->cg;
    const bool in_place = packed == NULL && (v->method == DLSI_DEPTH || DLSI_K_VW(v->cx) == 1);
    if (packed == NULL && !in_place) {
        dlsi_conv_pack(v, w, work);
        packed = work;
    }
    job->filters = in_place ? w : packed;
    job->b_k = v->method == DLSI_DEPTH ? v->c : in_place ? v->oc : nr;
    job->b_panel = in_place ? nr : (ptrdiff_t)k * nr;
    job->b_group = in_place ? v->og : (ptrdiff_t)dlsi_ceil_div(v->og, nr) * nr * k;
    if (DLSI_IS_WINO(v)) {
        job->rows = dlsi_wino_block(v);
        dls_parallel_for(v->cx->pool, dlsi_ceil_div(v->n * dlsi_wino_tiles(v), job->rows),
                         dlsi_conv_wino_task, job);
        return;
    }
    dlsi_conv_split(job);
    dls_parallel_for(v->cx->pool, v->n * job->blocks,
                     DLSI_IS_PATCH(v) ? dlsi_conv_patch_task : dlsi_conv_direct_task, job);
}

/* ---- Gradient by x. A stride of s by t parts x in s t phases; each is a plain correlation of dy
   with every s-th (t-th) tap, in reverse. ---- */

/* Taps that reach outputs of a phase: last, last - step, ...; count of them; shift of dy. */
typedef struct dlsi_phase {
    int32_t last, step, count, pad, dilation, size;
} dlsi_phase;
DLSI_FN dlsi_phase dlsi_conv_phase(int32_t size, int32_t kernel, int32_t stride, int32_t dilation,
                                   int32_t pad, int32_t phase) {
    dlsi_phase p;
    int32_t r, a = stride, b = dilation;
    while (b != 0) { /* greatest common divisor to a */
        const int32_t t = a % b;
        a = b;
        b = t;
    }
    p.step = stride / a;
    p.dilation = dilation / a;
    p.count = 0;
    p.last = -1;
    p.pad = 0;
    p.size = phase < size ? (size - 1 - phase) / stride + 1 : 0;
    for (r = kernel - 1; r >= 0; r--) {
        if ((phase + pad - r * dilation) % stride != 0) continue;
        if (p.last < 0) {
            p.last = r;
            p.pad = -((phase + pad - r * dilation) / stride);
        }
        p.count++;
        r -= p.step - 1;
    }
    return p;
}
DLSI_FN void dlsi_conv_dx_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_conv_job *job = (const dlsi_conv_job *)arg;
    const dlsi_conv *v = &job->v;
    const dlsi_phase py = dlsi_conv_phase(v->h, v->kh, v->sh, v->dh, v->pt, job->py);
    const dlsi_phase px = dlsi_conv_phase(v->w, v->kw, v->sw, v->dw, v->pl, job->px);
    const int32_t image = task / job->blocks, y0 = task % job->blocks * job->rows;
    const int32_t y1 = dlsi_min_i32(py.size, y0 + job->rows);
    int32_t group;
    (void)thread;
    for (group = 0; group < (v->method == DLSI_DEPTH ? 1 : v->groups); group++) {
        dlsi_corr g;
        dlsi_conv_corr(v, image, group, job->y, job->dy, &g); /* swapped: from dy into dx */
        g.x = job->dy + (ptrdiff_t)image * v->oh * v->ow * v->oc + (ptrdiff_t)group * v->og;
        g.y = job->y + ((ptrdiff_t)image * v->h + job->py) * v->w * v->c +
              (ptrdiff_t)job->px * v->c + (ptrdiff_t)group * v->cg;
        g.x_pix = v->oc;
        g.x_row = (ptrdiff_t)v->ow * v->oc;
        g.y_pix = (ptrdiff_t)v->sw * v->c;
        g.y_row = (ptrdiff_t)v->sh * v->w * v->c;
        g.h = v->oh;
        g.w = v->ow;
        g.c = v->method == DLSI_DEPTH ? v->c : v->og;
        g.oh = py.size;
        g.ow = px.size;
        g.oc = v->cg;
        g.kh = py.count;
        g.kw = px.count;
        g.sh = g.sw = 1;
        g.dh = py.dilation;
        g.dw = px.dilation;
        g.pt = py.pad;
        g.pl = px.pad;
        g.b = job->filters + group * job->b_group;
        g.b_k = v->method == DLSI_DEPTH ? v->c : job->b_k;
        g.b_panel = job->b_panel;
        g.lo = job->lo;
        g.hi = job->hi;
        if (job->bias != NULL) g.bias = job->bias + group * v->cg;
        if (job->res != NULL) g.res = job->res + (g.y - job->y);
        if (v->method == DLSI_DEPTH)
            DLSI_K(v->cx, depthwise, &g, y0, y1);
        else
            dlsi_conv_rows(job, v, &g, y0, y1);
    }
}
/* Filters of one phase, taps reversed, channels and outputs exchanged. */
DLSI_FN void dlsi_conv_pack_phase(const dlsi_conv *v, const dls_real *w, dlsi_phase py,
                                  dlsi_phase px, dls_real *dst) {
    const int32_t nr = DLSI_K_NR(v->cx), taps = py.count * px.count;
    const ptrdiff_t panel = (ptrdiff_t)taps * v->og * nr;
    int32_t group, t;
    for (group = 0; group < v->groups; group++, dst += dlsi_ceil_div(v->cg, nr) * panel) {
        for (t = 0; t < taps; t++) {
            const int32_t r = py.last - t / px.count * py.step,
                          s = px.last - t % px.count * px.step;
            DLSI_K(v->cx, pack, w + ((ptrdiff_t)r * v->kw + s) * v->cg * v->oc + group * v->og, 1,
                   v->oc, v->og, v->cg, dst + (ptrdiff_t)t * v->og * nr, panel);
        }
    }
}
/* y (which has x's shape) = clamp(gradient of conv by x of dy + bias + res). work: flipped
   filters. */
DLSI_FN void dlsi_conv_dx_run(dlsi_conv_job *job, const dls_real *w, dls_real *work) {
    const dlsi_conv *v = &job->v;
    const int32_t nr = DLSI_K_NR(v->cx);
    if (DLSI_IS_WINO(v)) { /* again a 3x3 convolution, of dy */
        dlsi_conv_job swapped = *job;
        swapped.v.h = v->oh;
        swapped.v.w = v->ow;
        swapped.v.c = v->oc;
        swapped.v.oh = v->h;
        swapped.v.ow = v->w;
        swapped.v.oc = v->c;
        swapped.v.pt = 2 - v->pt;
        swapped.v.pl = 2 - v->pl;
        swapped.x = job->dy;
        dlsi_wino_filters(v, w, true, work);
        dlsi_conv_forward_run(&swapped, NULL, work, NULL);
        return;
    }
    job->filters = work;
    for (job->py = 0; job->py < v->sh; job->py++) {
        for (job->px = 0; job->px < v->sw; job->px++) {
            const dlsi_phase py = dlsi_conv_phase(v->h, v->kh, v->sh, v->dh, v->pt, job->py);
            const dlsi_phase px = dlsi_conv_phase(v->w, v->kw, v->sw, v->dw, v->pl, job->px);
            int32_t t;
            if (py.size == 0 || px.size == 0) continue;
            job->b_k = nr;
            job->b_panel = (ptrdiff_t)py.count * px.count * v->og * nr;
            job->b_group = dlsi_ceil_div(v->cg, nr) * job->b_panel;
            if (v->method == DLSI_DEPTH) {
                for (t = 0; t < py.count * px.count; t++)
                    memcpy(work + (ptrdiff_t)t * v->c,
                           w + ((ptrdiff_t)(py.last - t / px.count * py.step) * v->kw + px.last -
                                t % px.count * px.step) *
                                   v->c,
                           (size_t)v->c * sizeof *work);
            } else {
                dlsi_conv_pack_phase(v, w, py, px, work);
            }
            job->blocks = 1;
            job->rows = py.size;
            if (v->n < 4 * dls_pool_threads(v->cx->pool)) {
                job->rows =
                    dlsi_ceil_div(py.size, dlsi_ceil_div(4 * dls_pool_threads(v->cx->pool), v->n));
                job->blocks = dlsi_ceil_div(py.size, job->rows);
            }
            dls_parallel_for(v->cx->pool, v->n * job->blocks, dlsi_conv_dx_task, job);
        }
    }
}

/* ---- Gradient by weights ---- */

/* One image, output channels [o0, o0 + count): patches times gradients. */
DLSI_FN void dlsi_conv_dw_patches(const dlsi_conv_job *job, int32_t image, bool cont, int32_t o0,
                                  int32_t count, int32_t thread, dls_real *dw) {
    const dlsi_conv *v = &job->v;
    const int32_t step = dlsi_patch_rows(v);
    dls_real *patches = (dls_real *)dls_op_scratch(job->call, thread);
    dls_real *work = patches + dlsi_round_up(dlsi_patch_reals(v), 16);
    int32_t y;
    dlsi_gemm g;
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a = patches;
    g.a_k = 1;
    g.b_k = g.ldc = v->oc;
    g.b_col = 1;
    g.c = dw + o0;
    g.m = v->kh * v->kw * v->c;
    g.n = count;
    for (y = 0; y < v->oh; y += step) {
        const int32_t end = dlsi_min_i32(v->oh, y + step);
        dlsi_conv_patches(v, job->x + (ptrdiff_t)image * v->h * v->w * v->c, y, end, patches);
        g.a_row = g.k = (end - y) * v->ow;
        g.b = job->dy + ((ptrdiff_t)image * v->oh + y) * v->ow * v->oc + o0;
        g.cont = cont || y > 0;
        DLSI_K(v->cx, gemm, &g, work);
    }
}
/* One part of the images, one slice of the output channels (direct methods), into its partial sum.
   */
DLSI_FN void dlsi_conv_dw_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_conv_job *job = (const dlsi_conv_job *)arg;
    const dlsi_conv *v = &job->v;
    const int32_t part = task / job->slices, slice = task % job->slices;
    const int32_t first = (int32_t)((int64_t)v->n * part / job->parts);
    const int32_t end = (int32_t)((int64_t)v->n * (part + 1) / job->parts);
    const int32_t o0 = (int32_t)((int64_t)v->og * slice / job->slices);
    const int32_t o1 = (int32_t)((int64_t)v->og * (slice + 1) / job->slices);
    dls_real *dw = job->part + (size_t)part * dlsi_conv_part_reals(v),
             *db = dw + dlsi_conv_weights(v);
    int32_t image, group, y, step;
    if (DLSI_IS_WINO(v)) {
        dlsi_conv_dw_wino(job, part, thread, dw);
    } else if (v->method == DLSI_DEPTH) {
        memset(dw, 0, dlsi_conv_weights(v) * sizeof *dw);
    }
    for (image = first; image < end; image++) {
        const size_t pixels = (size_t)v->oh * (size_t)v->ow;
        dlsi_corr g;
        if (slice == 0 && job->call->dw[1] != NULL)
            DLSI_K(v->cx, col_sum, job->dy + (size_t)image * pixels * (size_t)v->oc, pixels, v->oc,
                   db, image > first);
        if (DLSI_IS_WINO(v)) continue;
        for (group = 0; group < (v->method == DLSI_DEPTH ? 1 : v->groups); group++) {
            dlsi_conv_corr(v, image, group, job->x, job->dy, &g);
            g.b_k = v->oc;
            if (v->method == DLSI_DEPTH) {
                DLSI_K(v->cx, depthwise_dw, &g, 0, v->oh, dw);
                continue;
            }
            g.y += o0;
            g.oc = o1 - o0;
            step = dlsi_max_i32(
                1, 8192 / (int32_t)dlsi_min_size((size_t)(g.x_row * v->sh + g.y_row), 8192));
            if (DLSI_IS_PATCH(v)) {
                dlsi_conv_dw_patches(job, image, image > first, o0, o1 - o0, thread, dw);
                continue;
            }
            for (y = 0; y < v->oh; y += step)
                DLSI_K(v->cx, corr_dw, &g, y, dlsi_min_i32(v->oh, y + step),
                       dw + group * v->og + o0, image > first || y > 0);
        }
    }
}
typedef struct dlsi_parts {
    const dls_cx *cx;
    const dls_real *part;
    size_t stride;
    int32_t parts;
    dls_real *sum;
    bool add;
} dlsi_parts;
DLSI_FN void dlsi_parts_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_parts *p = (const dlsi_parts *)arg;
    int32_t i;
    (void)thread;
    dlsi_put(p->cx, p->part + first, p->sum + first, count, p->add);
    for (i = 1; i < p->parts; i++)
        dlsi_put(p->cx, p->part + (size_t)i * p->stride + first, p->sum + first, count, true);
}
/* sum (+)= the partial sums, in their order. */
DLSI_FN void dlsi_add_parts(const dls_cx *cx, const dls_real *part, size_t stride, int32_t parts,
                            dls_real *sum, size_t count, bool add) {
    dlsi_parts p;
    p.cx = cx;
    p.part = part;
    p.stride = stride;
    p.parts = parts;
    p.sum = sum;
    p.add = add;
    dlsi_par_spans(cx, count, DLSI_GRAIN, dlsi_parts_span, &p);
}
DLSI_FN void dlsi_conv_dw_run(dlsi_conv_job *job, dls_real *work) {
    const dlsi_conv *v = &job->v;
    const dls_op_call *call = job->call;
    const size_t stride = dlsi_conv_part_reals(v), weights = dlsi_conv_weights(v);
    const int32_t threads = dls_pool_threads(v->cx->pool);
    job->part = work;
    job->parts = dlsi_conv_parts(v);
    job->slices = 1;
    if (job->parts < threads && v->method != DLSI_WINO && v->method != DLSI_DEPTH)
        job->slices = dlsi_min_i32(dlsi_ceil_div(threads, job->parts),
                                   dlsi_ceil_div(v->og, DLSI_K_NR(v->cx)));
    dls_parallel_for(v->cx->pool, job->parts * job->slices, dlsi_conv_dw_task, job);
    dlsi_add_parts(v->cx, job->part, stride, job->parts, call->dw[0], weights, call->dw_add);
    dlsi_ready(call, 0, weights);
    if (call->dw[1] != NULL) {
        dlsi_add_parts(v->cx, job->part + weights, stride, job->parts, call->dw[1], (size_t)v->oc,
                       call->dw_add);
        dlsi_ready(call, 1, (size_t)v->oc);
    }
}

/* ---- The two ops ---- */

/* Checks attributes that both share. Sets the output's axes of a plain convolution of h x w. */
DLSI_FN dls_status dlsi_conv_check(const dls_op_site *site, int32_t *kh, int32_t *kw) {
    const dls_attr *a = site->attr;
    const int32_t s = a->i[DLSI_CONV_S], d = a->i[DLSI_CONV_D], k = a->i[DLSI_CONV_K];
    dls_status st = dlsi_need_batched(site);
    if (st == DLS_OK) st = dlsi_need_fusable(site);
    if (st != DLS_OK) return st;
    if (dlsi_low(k) < 1 || dlsi_high(k) < 1 || dlsi_low(s) < 1 || dlsi_high(s) < 1 ||
        dlsi_low(d) < 1 || dlsi_high(d) < 1 || dlsi_low(k) > 1024 || dlsi_high(k) > 1024)
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("kernel {0} x {1}: kernel, stride and dilation must be 1 or "
                                    "more, kernel at most 1024"),
                           dlsi_low(k), dlsi_high(k), 0);
    *kh = (dlsi_low(k) - 1) * dlsi_low(d) + 1; /* below 2^26 */
    *kw = (dlsi_high(k) - 1) * dlsi_high(d) + 1;
    if (a->i[DLSI_CONV_C] < 1 || a->i[DLSI_CONV_G] < 1 ||
        a->i[DLSI_CONV_C] % a->i[DLSI_CONV_G] != 0 || site->x[0].c % a->i[DLSI_CONV_G] != 0)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("{2} groups must divide {0} input and {1} output channels"),
                           site->x[0].c, a->i[DLSI_CONV_C], a->i[DLSI_CONV_G]);
    if (!dlsi_fits((int64_t)(site->x[0].c / a->i[DLSI_CONV_G]) * dlsi_low(k) * dlsi_high(k),
                   a->i[DLSI_CONV_C]))
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("{0} x {1} channels: too many weights"),
                           site->x[0].c, a->i[DLSI_CONV_C], 0);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_conv_y(const dls_op_site *site, dls_op_spec *spec, int64_t h, int64_t w) {
    if (h >= 1 && w >= 1 && h <= DLS_DIM_MAX && w <= DLS_DIM_MAX)
        spec->y = dlsi_shape((int32_t)h, (int32_t)w, site->attr->i[DLSI_CONV_C]);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("the kernel does not fit in {0} x {1} with its padding, or the "
                                    "output is too large"),
                           site->x[0].h, site->x[0].w, 0);
    return DLS_OK;
}
DLSI_FN void dlsi_conv_params(dls_op_spec *spec, const dls_attr *a, int32_t c0, int32_t c1,
                              int32_t bias) {
    const int32_t kh = dlsi_low(a->i[DLSI_CONV_K]), kw = dlsi_high(a->i[DLSI_CONV_K]);
    const int32_t fan = a->i[DLSI_CONV_C] == c0 ? c1 : c0; /* transposed: inputs are innermost */
    dlsi_param(spec, "weight", kh, kw, c0, c1, DLS_INIT_UNIFORM, dlsi_he((int64_t)kh * kw * fan),
               0);
    if ((a->i[DLSI_CONV_F] >> 8 & 1) == 0)
        dlsi_param(spec, "bias", 1, 1, 1, bias, DLS_INIT_ZERO, 0, DLS_PARAM_NO_DECAY);
    spec->keep_x = 1;
    spec->keep_y = dlsi_attr_act(a) != DLS_ACT_NONE;
}
DLSI_FN void dlsi_conv_sizes(const dlsi_conv *v, bool train, bool packs, dls_op_spec *spec) {
    const bool in_place = v->method == DLSI_DEPTH || DLSI_K_VW(v->cx) == 1;
    spec->work_thread = dlsi_reals(dlsi_conv_scratch_reals(v, train));
    if (packs)
        spec->packed = dlsi_reals(dlsi_conv_packed_reals(v) + (size_t)v->oc);
    else
        spec->work = in_place ? 0 : dlsi_reals(dlsi_conv_packed_reals(v));
    if (!train) return;
    spec->work = dlsi_max_size(spec->work, dlsi_reals(dlsi_conv_flipped_reals(v)));
    spec->work =
        dlsi_max_size(spec->work, dlsi_reals((size_t)dlsi_conv_parts(v) * dlsi_conv_part_reals(v)));
}
DLSI_FN dls_status dlsi_conv_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_attr *a = site->attr;
    const dls_shape x = site->x[0];
    const int32_t s = a->i[DLSI_CONV_S], p0 = a->i[DLSI_CONV_P0], p1 = a->i[DLSI_CONV_P1];
    int32_t kh, kw, h, w;
    dlsi_conv v;
    dls_status st = dlsi_conv_check(site, &kh, &kw);
    if (st != DLS_OK) return st;
    h = x.h + dlsi_low(p0) + dlsi_low(p1) - kh; /* an axis is at most 2^30, a padding 2^16 */
    w = x.w + dlsi_high(p0) + dlsi_high(p1) - kw;
    st = dlsi_conv_y(site, spec, h < 0 ? 0 : h / dlsi_low(s) + 1, w < 0 ? 0 : w / dlsi_high(s) + 1);
    if (st != DLS_OK) return st;
    dlsi_conv_geometry(&v, site->cx, a, site->batch, x, spec->y);
    dlsi_conv_params(spec, a, v.cg, v.oc, v.oc);
    spec->param[0].scale = dlsi_he((int64_t)v.kh * v.kw * v.cg);
    spec->macs = DLSI_MACS((double)dlsi_count(spec->y) * v.kh * v.kw * v.cg);
    spec->residual = v.method != DLSI_POINT || v.c <= DLSI_KC;
    if (site->cx == NULL) return DLS_OK;
    if (v.method == DLSI_POINT) {
        dls_op_site rows = *site;
        dls_attr plain;
        DLSI_ZERO(plain);
        plain.i[0] = v.oc;
        plain.i[1] = a->i[DLSI_CONV_F] >> 8 & 1;
        plain.i[DLS_ATTR_ACT] = a->i[DLSI_CONV_F] & 255;
        rows.attr = &plain;
        spec->params = 0;
        st = dlsi_linear_shape(&rows, spec);
        spec->param[0].scale = dlsi_he(v.c);
        return st;
    }
    dlsi_conv_sizes(&v, DLSI_TRAINS(site), dlsi_packs(site), spec);
    return DLS_OK;
}
DLSI_FN void dlsi_conv_op_pack(const dls_op_call *call, const dls_real *scale,
                               const dls_real *shift, void *packed) {
    dls_real *dst = (dls_real *)packed, *bias;
    const int32_t nr = DLSI_K_NR(call->cx);
    dlsi_conv v;
    int32_t g, j;
    size_t p, k;
    dlsi_conv_geometry(&v, call->cx, call->attr, call->n, call->xs[0], call->ys);
    if (v.method == DLSI_POINT) {
        dlsi_linear_pack(call, scale, shift, packed);
        return;
    }
    bias = dst + dlsi_conv_packed_reals(&v);
    dlsi_conv_pack(&v, call->w[0], dst);
    k = (size_t)(v.kh * v.kw) * (size_t)v.cg;
    if (DLSI_IS_WINO(&v)) {
        const size_t point = dlsi_wino_filter_reals(&v, v.c, v.oc) / DLSI_WINO_POINTS;
        for (p = 0; p < DLSI_WINO_POINTS; p++)
            dlsi_pack_affine(v.cx, dst + p * point, (size_t)v.c, v.oc, call->w[1], scale, shift,
                             bias);
    } else if (v.method == DLSI_DEPTH) {
        for (j = 0; j < v.c; j++) {
            dls_real b = call->w[1] != NULL ? call->w[1][j] : (dls_real)0;
            for (p = 0; scale != NULL && p < k; p++) dst[p * (size_t)v.c + (size_t)j] *= scale[j];
            bias[j] = scale != NULL ? b * scale[j] + shift[j] : b;
        }
    } else {
        for (g = 0; g < v.groups; g++)
            dlsi_pack_affine(v.cx, dst + (size_t)g * (size_t)(dlsi_ceil_div(v.og, nr) * nr) * k, k,
                             v.og, call->w[1] != NULL ? call->w[1] + g * v.og : NULL,
                             scale != NULL ? scale + g * v.og : NULL,
                             shift != NULL ? shift + g * v.og : NULL, bias + g * v.og);
    }
}
DLSI_FN dls_status dlsi_conv_forward(const dls_op_call *call) {
    dlsi_conv_job job;
    DLSI_ZERO(job);
    dlsi_conv_geometry(&job.v, call->cx, call->attr, call->n, call->xs[0], call->ys);
    dlsi_call_clamp(call, &job.lo, &job.hi);
    if (job.v.method == DLSI_POINT) return dlsi_linear_forward(call);
    job.call = call;
    job.x = (const dls_real *)call->x[0];
    job.y = (dls_real *)call->y;
    job.bias = call->packed != NULL
                   ? (const dls_real *)call->packed + dlsi_conv_packed_reals(&job.v)
                   : call->w[1];
    job.res = call->residual;
    dlsi_conv_forward_run(&job, call->w[0], (const dls_real *)call->packed, (dls_real *)call->work);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_conv_backward(const dls_op_call *call) {
    dlsi_conv_job job;
    DLSI_ZERO(job);
    dlsi_conv_geometry(&job.v, call->cx, call->attr, call->n, call->xs[0], call->ys);
    dlsi_fused_act_grad(call);
    if (job.v.method == DLSI_POINT) {
        dlsi_linear_grads(call, call->w[0], call->dw[0], call->dw[1], call->n * job.v.h * job.v.w,
                          job.v.c, job.v.oc);
        return DLS_OK;
    }
    (void)dlsi_act_clamp(DLS_ACT_NONE, &job.lo, &job.hi);
    job.call = call;
    job.x = (const dls_real *)call->x[0];
    job.dy = call->dy;
    if (call->dx[0] != NULL) {
        job.y = call->dx[0];
        job.res = (call->dx_add & 1u) != 0 ? job.y : NULL;
        dlsi_conv_dx_run(&job, call->w[0], (dls_real *)call->work);
    }
    if (call->dw[0] != NULL) dlsi_conv_dw_run(&job, (dls_real *)call->work);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_conv2d(void) {
    static const dls_op row = {"conv2d",
                               1,
                               1,
                               DLS_MERGE_HEAD,
                               dlsi_conv_shape,
                               dlsi_conv_forward,
                               DLSI_BACKWARD(dlsi_conv_backward),
                               DLSI_PACKING(dlsi_conv_op_pack),
                               NULL};
    return &row;
}

/* The transposed op runs the same three pieces with the roles of x and y exchanged. */
DLSI_FN dls_status dlsi_convt_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_attr *a = site->attr;
    const dls_shape x = site->x[0];
    const int32_t s = a->i[DLSI_CONV_S], p0 = a->i[DLSI_CONV_P0], p1 = a->i[DLSI_CONV_P1];
    const int32_t oph = a->i[DLSI_CONV_F] >> 16 & 255, opw = a->i[DLSI_CONV_F] >> 24 & 127;
    int32_t kh, kw;
    dlsi_conv v;
    dls_status st = dlsi_conv_check(site, &kh, &kw);
    if (st != DLS_OK) return st;
    if (a->i[DLSI_CONV_G] != 1 || oph >= dlsi_low(s) || opw >= dlsi_high(s))
        return dls_op_fail(
            site, DLS_E_ARG,
            DLSI_MSG(
                "transposed: groups must be 1 (have {0}), output padding less than the stride"),
            a->i[DLSI_CONV_G], 0, 0);
    st = dlsi_conv_y(site, spec,
                     (int64_t)(x.h - 1) * dlsi_low(s) - dlsi_low(p0) - dlsi_low(p1) + kh + oph,
                     (int64_t)(x.w - 1) * dlsi_high(s) - dlsi_high(p0) - dlsi_high(p1) + kw + opw);
    if (st != DLS_OK) return st;
    dlsi_conv_geometry(&v, site->cx, a, site->batch, spec->y, x);
    dlsi_conv_params(spec, a, v.c, v.oc, v.c);
    spec->param[0].scale = dlsi_he((int64_t)v.kh * v.kw * v.oc / (v.sh * v.sw) + 1);
    spec->macs = DLSI_MACS((double)dlsi_count(x) * v.kh * v.kw * v.c);
    if (site->cx == NULL) return DLS_OK;
    if (v.method == DLSI_POINT) v.method = DLSI_DIRECT;
    dlsi_conv_sizes(&v, true, false, spec);
    spec->work = dlsi_max_size(
        spec->work, dlsi_reals(dlsi_colsum_parts((size_t)v.n * dlsi_count(spec->y)) * (size_t)v.c));
    return DLS_OK;
}
DLSI_FN void dlsi_convt_job(const dls_op_call *call, dlsi_conv_job *job) {
    memset(job, 0, sizeof *job);
    dlsi_conv_geometry(&job->v, call->cx, call->attr, call->n, call->ys, call->xs[0]);
    if (job->v.method == DLSI_POINT) job->v.method = DLSI_DIRECT;
    (void)dlsi_act_clamp(DLS_ACT_NONE, &job->lo, &job->hi);
    job->call = call;
}
DLSI_FN dls_status dlsi_convt_forward(const dls_op_call *call) {
    dlsi_conv_job job;
    dlsi_convt_job(call, &job);
    dlsi_call_clamp(call, &job.lo, &job.hi);
    job.dy = (dls_real *)call->x[0];
    job.y = (dls_real *)call->y;
    job.bias = call->w[1];
    dlsi_conv_dx_run(&job, call->w[0], (dls_real *)call->work);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_convt_backward(const dls_op_call *call) {
    dlsi_conv_job job;
    dlsi_fused_act_grad(call);
    dlsi_convt_job(call, &job);
    if (call->dx[0] != NULL) {
        job.x = call->dy;
        job.y = call->dx[0];
        job.res = (call->dx_add & 1u) != 0 ? job.y : NULL;
        dlsi_conv_forward_run(&job, call->w[0], NULL, (dls_real *)call->work);
        job.res = NULL;
    }
    if (call->dw[0] != NULL) {
        dls_op_call own = *call; /* the bias belongs to what the plain convolution calls x */
        own.dw[1] = NULL;
        job.call = &own;
        job.x = call->dy;
        job.dy = (dls_real *)call->x[0];
        dlsi_conv_dw_run(&job, (dls_real *)call->work);
        if (call->dw[1] != NULL) {
            dlsi_col_sum(call->cx, call->dy,
                         (size_t)call->n * (size_t)call->ys.h * (size_t)call->ys.w, call->ys.c,
                         (dls_real *)call->work, call->dw[1], call->dw_add);
            dlsi_ready(call, 1, (size_t)call->ys.c);
        }
    }
    return DLS_OK;
}
DLS_API const dls_op *dls_op_conv_transpose(void) {
    static const dls_op row = {"conv_transpose",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_convt_shape,
                               dlsi_convt_forward,
                               DLSI_BACKWARD(dlsi_convt_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- maxpool, avgpool ----  i: kernel, stride (pairs h, w); padding (top, left), (bottom, right);
   3: unused; 4: count_padding; 5: global (the kernel is the input) */

typedef struct dlsi_pool2d {
    const dls_op_call *call;
    bool max, count_padding;
} dlsi_pool2d;
DLSI_FN dls_status dlsi_pool_shape(const dls_op_site *site, dls_op_spec *spec, bool max) {
    const dls_attr *a = site->attr;
    const dls_shape x = site->x[0];
    const bool whole = a->i[5] != 0;
    const int32_t kh = whole ? x.h : dlsi_low(a->i[0]), kw = whole ? x.w : dlsi_high(a->i[0]);
    const int32_t sh = whole ? 1 : dlsi_low(a->i[1]), sw = whole ? 1 : dlsi_high(a->i[1]);
    const int32_t h = x.h + dlsi_low(a->i[2]) + dlsi_low(a->i[3]) - kh;
    const int32_t w = x.w + dlsi_high(a->i[2]) + dlsi_high(a->i[3]) - kw;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (kh < 1 || kw < 1 || sh < 1 || sw < 1 || h < 0 || w < 0 || dlsi_low(a->i[2]) >= kh ||
        dlsi_high(a->i[2]) >= kw || dlsi_low(a->i[3]) >= kh || dlsi_high(a->i[3]) >= kw)
        return dls_op_fail(
            site, DLS_E_SHAPE,
            DLSI_MSG("a window of {0} x {1} does not fit, or its padding is not smaller than it"),
            kh, kw, 0);
    spec->y = dlsi_shape(h / sh + 1, w / sw + 1, x.c);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("the output is too large"), 0, 0, 0);
    spec->keep_x = max;
    spec->keep_y = max;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_maxpool_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_pool_shape(site, spec, true);
}
DLSI_FN dls_status dlsi_avgpool_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_pool_shape(site, spec, false);
}
DLSI_FN void dlsi_pool_corr(const dls_op_call *call, int32_t image, dlsi_corr *g) {
    const dls_attr *a = call->attr;
    const bool whole = a->i[5] != 0;
    memset(g, 0, sizeof *g);
    g->h = call->xs[0].h;
    g->w = call->xs[0].w;
    g->c = g->oc = call->ys.c;
    g->oh = call->ys.h;
    g->ow = call->ys.w;
    g->x_pix = g->y_pix = g->c;
    g->x_row = (ptrdiff_t)g->w * g->c;
    g->y_row = (ptrdiff_t)g->ow * g->c;
    g->x = (const dls_real *)call->x[0] + (ptrdiff_t)image * g->h * g->x_row;
    g->y = (dls_real *)call->y + (ptrdiff_t)image * g->oh * g->y_row;
    g->kh = whole ? g->h : dlsi_low(a->i[0]);
    g->kw = whole ? g->w : dlsi_high(a->i[0]);
    g->sh = whole ? 1 : dlsi_low(a->i[1]);
    g->sw = whole ? 1 : dlsi_high(a->i[1]);
    g->dh = g->dw = 1;
    g->pt = dlsi_low(a->i[2]);
    g->pl = dlsi_high(a->i[2]);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g->lo, &g->hi);
}
DLSI_FN void dlsi_pool_task(void *arg, int32_t image, int32_t thread) {
    const dlsi_pool2d *p = (const dlsi_pool2d *)arg;
    dlsi_corr g;
    (void)thread;
    dlsi_pool_corr(p->call, image, &g);
    if (p->max)
        DLSI_K(p->call->cx, maxpool, &g, 0, g.oh);
    else
        DLSI_K(p->call->cx, avgpool, &g, 0, g.oh, p->count_padding);
}
DLSI_FN void dlsi_pool_grad_task(void *arg, int32_t image, int32_t thread) {
    const dlsi_pool2d *p = (const dlsi_pool2d *)arg;
    const dls_op_call *call = p->call;
    dls_real *dx = call->dx[0] + (size_t)image * dlsi_count(call->xs[0]);
    const dls_real *dy = call->dy + (size_t)image * dlsi_count(call->ys);
    dlsi_corr g;
    (void)thread;
    dlsi_pool_corr(call, image, &g);
    if ((call->dx_add & 1u) == 0) memset(dx, 0, dlsi_count(call->xs[0]) * sizeof *dx);
    if (p->max)
        DLSI_K(call->cx, maxpool_grad, &g, g.y, dy, dx);
    else
        DLSI_K(call->cx, avgpool_grad, &g, dy, dx, p->count_padding);
}
DLSI_FN dls_status dlsi_pool_run(const dls_op_call *call, bool max, bool backward) {
    dlsi_pool2d p;
    p.call = call;
    p.max = max;
    p.count_padding = call->attr->i[4] != 0;
    if (backward && call->dx[0] == NULL) return DLS_OK;
    dls_parallel_for(call->cx->pool, call->n, backward ? dlsi_pool_grad_task : dlsi_pool_task, &p);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_maxpool_forward(const dls_op_call *call) {
    return dlsi_pool_run(call, true, false);
}
DLSI_FN dls_status dlsi_maxpool_backward(const dls_op_call *call) {
    return dlsi_pool_run(call, true, true);
}
DLSI_FN dls_status dlsi_avgpool_forward(const dls_op_call *call) {
    return dlsi_pool_run(call, false, false);
}
DLSI_FN dls_status dlsi_avgpool_backward(const dls_op_call *call) {
    return dlsi_pool_run(call, false, true);
}
DLS_API const dls_op *dls_op_maxpool(void) {
    static const dls_op row = {"maxpool",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_maxpool_shape,
                               dlsi_maxpool_forward,
                               DLSI_BACKWARD(dlsi_maxpool_backward),
                               NULL,
                               NULL};
    return &row;
}
DLS_API const dls_op *dls_op_avgpool(void) {
    static const dls_op row = {"avgpool",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_avgpool_shape,
                               dlsi_avgpool_forward,
                               DLSI_BACKWARD(dlsi_avgpool_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- batchnorm ----  i: act last. f: eps, share by which statistics move.
   Parameters: gain, bias, mean, variance; the last two are statistics: backward writes this
   batch's, times call->weight, where gradients go. saved: mean, 1 / deviation, scale, shift. */

typedef struct dlsi_bn {
    const dls_op_call *call;
    const dls_real *x, *dy;
    dls_real *part;      /* [parts][2][c] */
    dls_real *a, *b, *d; /* per channel */
    size_t rows, per_part;
    int32_t c, parts;
    dls_real lo, hi;
    bool add;
} dlsi_bn;
DLSI_FN void dlsi_bn_setup(const dls_op_call *call, dlsi_bn *t) {
    memset(t, 0, sizeof *t);
    t->call = call;
    t->c = call->ys.c;
    t->rows = (size_t)call->n * (size_t)call->ys.h * (size_t)call->ys.w;
    t->per_part = dlsi_colsum_rows(t->rows);
    t->parts = (int32_t)dlsi_colsum_parts(t->rows);
    t->x = (const dls_real *)call->x[0];
    t->part = (dls_real *)call->work;
    dlsi_call_clamp(call, &t->lo, &t->hi);
}
DLSI_FN size_t dlsi_bn_part(const dlsi_bn *t, int32_t task, size_t *first) {
    *first = (size_t)task * t->per_part;
    return dlsi_min_size(t->per_part, t->rows - *first);
}
DLSI_FN dls_status dlsi_batchnorm_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t c = site->x[0].c;
    const float eps = site->attr->f[0], share = site->attr->f[1];
    dls_status st = dlsi_need_batched(site);
    if (st == DLS_OK) st = dlsi_need_fusable(site);
    if (st != DLS_OK) return st;
    if (!(eps > 0.0f) || !(share >= 0.0f) || !(share <= 1.0f))
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("eps must be positive, the moving share 0..1"),
                           0, 0, 0);
    (void)dlsi_y_from_x(site, spec);
    dlsi_param(spec, "gain", 1, 1, 1, c, DLS_INIT_ONE, 0, DLS_PARAM_NO_DECAY);
    dlsi_param(spec, "bias", 1, 1, 1, c, DLS_INIT_ZERO, 0, DLS_PARAM_NO_DECAY);
    dlsi_param(spec, "mean", 1, 1, 1, c, DLS_INIT_ZERO, share,
               DLS_PARAM_STATISTIC | DLS_PARAM_NO_DECAY);
    dlsi_param(spec, "variance", 1, 1, 1, c, DLS_INIT_ONE, share,
               DLS_PARAM_STATISTIC | DLS_PARAM_NO_DECAY);
    spec->macs = DLSI_MACS((double)dlsi_count(spec->y));
    spec->keep_x = 1;
    spec->saved_batch = dlsi_reals(4 * (size_t)c);
    spec->dx_inplace = true;
    spec->inplace = !site->train;
    if (site->cx != NULL) {
        const size_t rows = (size_t)site->batch * (size_t)site->x[0].h * (size_t)site->x[0].w;
        spec->work = dlsi_reals((2 * dlsi_colsum_parts(rows) + 4) * (size_t)c);
    }
    return DLS_OK;
}
DLSI_FN void dlsi_bn_stats_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_bn *t = (const dlsi_bn *)arg;
    size_t first, rows = dlsi_bn_part(t, task, &first);
    dls_real *sum = t->part + (size_t)task * 2 * (size_t)t->c;
    (void)thread;
    DLSI_K(t->call->cx, col_stats, t->x + first * (size_t)t->c, rows, t->c, t->x, sum, sum + t->c);
}
DLSI_FN void dlsi_bn_apply_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_bn *t = (const dlsi_bn *)arg;
    size_t first, rows = dlsi_bn_part(t, task, &first);
    (void)thread;
    DLSI_K(t->call->cx, col_affine, t->x + first * (size_t)t->c, rows, t->c, t->a, t->b,
           (dls_real *)t->call->y + first * (size_t)t->c, t->lo, t->hi);
}
/* y = x a + b: gain / deviation, and what is left. */
DLSI_FN void dlsi_bn_affine(const dls_op_call *call, dls_real *scale, dls_real *shift) {
    int32_t j;
    for (j = 0; j < call->ys.c; j++) {
        const dls_real r = (dls_real)1 / dlsi_sqrt_real(call->w[3][j] + (dls_real)call->attr->f[0]);
        scale[j] = call->w[0][j] * r;
        shift[j] = call->w[1][j] - call->w[2][j] * scale[j];
    }
}
/* Statistics of the batch, from sums about the first row, which keeps them accurate. */
DLSI_FN void dlsi_bn_finish_stats(const dlsi_bn *t, dls_real *mean, dls_real *istd) {
    const dls_real rows = (dls_real)t->rows, eps = (dls_real)t->call->attr->f[0];
    int32_t j, p;
    for (j = 0; j < t->c; j++) {
        dls_real sum = t->part[j], square = t->part[t->c + j], m;
        for (p = 1; p < t->parts; p++) {
            sum += t->part[(ptrdiff_t)2 * p * t->c + j];
            square += t->part[((ptrdiff_t)2 * p + 1) * t->c + j];
        }
        m = sum / rows;
        square = square / rows - m * m;
        if (square < (dls_real)0) square = (dls_real)0;
        mean[j] = t->x[j] + m;
        istd[j] = (dls_real)1 / dlsi_sqrt_real(square + eps);
    }
}
DLSI_FN dls_status dlsi_batchnorm_forward(const dls_op_call *call) {
    dlsi_bn t;
    int32_t j;
    dlsi_bn_setup(call, &t);
    t.a = t.part + 2 * t.parts * (ptrdiff_t)t.c;
    t.b = t.a + t.c;
    if (call->train) {
        dls_real *mean = (dls_real *)call->saved, *istd = mean + t.c;
        dls_parallel_for(call->cx->pool, t.parts, dlsi_bn_stats_task, &t);
        dlsi_bn_finish_stats(&t, mean, istd);
        t.a = istd + t.c;
        t.b = t.a + t.c;
        for (j = 0; j < t.c; j++) {
            t.a[j] = call->w[0][j] * istd[j];
            t.b[j] = call->w[1][j] - mean[j] * t.a[j];
        }
    } else {
        dlsi_bn_affine(call, t.a, t.b);
    }
    dls_parallel_for(call->cx->pool, t.parts, dlsi_bn_apply_task, &t);
    return DLS_OK;
}
/* Gradient before the fused clamp, recomputed from x, then the two sums. */
DLSI_FN void dlsi_bn_grad_stats_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_bn *t = (const dlsi_bn *)arg;
    size_t first, rows = dlsi_bn_part(t, task, &first);
    dls_real *sum = t->part + (size_t)task * 2 * (size_t)t->c;
    const dls_real *mean = (const dls_real *)t->call->saved;
    (void)thread;
    DLSI_K(t->call->cx, col_grad_stats, t->x + first * (size_t)t->c, t->dy + first * (size_t)t->c,
           rows, t->c, mean, mean + 2 * t->c, mean + 3 * t->c, t->lo, t->hi, sum, sum + t->c);
}
DLSI_FN void dlsi_bn_grad_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_bn *t = (const dlsi_bn *)arg;
    size_t first, rows = dlsi_bn_part(t, task, &first);
    const dls_real *mean = (const dls_real *)t->call->saved;
    (void)thread;
    DLSI_K(t->call->cx, col_grad, t->x + first * (size_t)t->c, t->dy + first * (size_t)t->c, rows,
           t->c, t->a, t->b, t->d, mean + 2 * t->c, mean + 3 * t->c, t->lo, t->hi,
           t->call->dx[0] + first * (size_t)t->c, t->add);
}
DLSI_FN dls_status dlsi_batchnorm_backward(const dls_op_call *call) {
    const dls_real *mean = (const dls_real *)call->saved, *istd;
    dlsi_bn t;
    int32_t j, p;
    dlsi_bn_setup(call, &t);
    t.dy = call->dy;
    t.a = t.part + 2 * t.parts * (ptrdiff_t)t.c;
    t.b = t.a + t.c;
    t.d = t.b + t.c;
    t.add = (call->dx_add & 1u) != 0;
    istd = mean + t.c;
    dls_parallel_for(call->cx->pool, t.parts, dlsi_bn_grad_stats_task, &t);
    for (j = 0; j < t.c; j++) {
        const dls_real rows = (dls_real)t.rows;
        dls_real sum = t.part[j], product = t.part[t.c + j], stat[4];
        for (p = 1; p < t.parts; p++) {
            sum += t.part[(ptrdiff_t)2 * p * t.c + j];
            product += t.part[((ptrdiff_t)2 * p + 1) * t.c + j];
        }
        product *= istd[j]; /* sum of dy xhat */
        stat[0] = product;
        stat[1] = sum;
        stat[2] = mean[j] * call->weight;
        stat[3] = (dls_real)1 / (istd[j] * istd[j]) - (dls_real)call->attr->f[0];
        if (t.rows > 1) stat[3] = stat[3] * (rows / (rows - (dls_real)1));
        stat[3] *= call->weight;
        for (p = 0; p < 4; p++)
            if (call->dw[p] != NULL)
                call->dw[p][j] = call->dw_add ? call->dw[p][j] + stat[p] : stat[p];
        t.a[j] = call->w[0][j] * istd[j];
        t.b[j] = -t.a[j] * istd[j] * product / rows;
        t.d[j] = -t.a[j] * sum / rows - t.b[j] * mean[j];
    }
    for (p = 0; p < 4; p++)
        if (call->dw[p] != NULL) dlsi_ready(call, p, (size_t)t.c);
    if (call->dx[0] != NULL) dls_parallel_for(call->cx->pool, t.parts, dlsi_bn_grad_task, &t);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_batchnorm(void) {
    static const dls_op row = {"batchnorm",
                               1,
                               1,
                               DLS_MERGE_NORM,
                               dlsi_batchnorm_shape,
                               dlsi_batchnorm_forward,
                               DLSI_BACKWARD(dlsi_batchnorm_backward),
                               NULL,
                               dlsi_bn_affine};
    return &row;
}

/* ---- groupnorm ----  i: groups; act last. f: eps.  Per sample, as batchnorm with channels pooled
   by group. saved per sample: mean and 1 / deviation per group, scale and shift per channel. */

DLSI_FN dls_status dlsi_groupnorm_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t c = site->x[0].c, groups = site->attr->i[0];
    dls_status st = dlsi_need_batched(site);
    if (st == DLS_OK) st = dlsi_need_fusable(site);
    if (st != DLS_OK) return st;
    if (groups < 1 || c % groups != 0 || !(site->attr->f[0] > 0.0f))
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("{0} groups must divide {1} channels, eps be positive"), groups,
                           c, 0);
    (void)dlsi_y_from_x(site, spec);
    dlsi_param(spec, "gain", 1, 1, 1, c, DLS_INIT_ONE, 0, DLS_PARAM_NO_DECAY);
    dlsi_param(spec, "bias", 1, 1, 1, c, DLS_INIT_ZERO, 0, DLS_PARAM_NO_DECAY);
    spec->macs = DLSI_MACS((double)dlsi_count(spec->y));
    spec->keep_x = 1;
    spec->saved_sample = dlsi_reals(2 * (size_t)groups + 2 * (size_t)c);
    spec->dx_inplace = true;
    spec->inplace = !site->train;
    spec->work = dlsi_reals(2 * (size_t)site->batch * (size_t)c);
    spec->work_thread = dlsi_reals(5 * (size_t)c);
    return DLS_OK;
}
DLSI_FN void dlsi_groupnorm_task(void *arg, int32_t sample, int32_t thread) {
    const dls_op_call *call = (const dls_op_call *)arg;
    const int32_t c = call->ys.c, groups = call->attr->i[0], each = c / groups;
    const size_t rows = (size_t)call->ys.h * (size_t)call->ys.w,
                 at = (size_t)sample * rows * (size_t)c;
    const dls_real *x = (const dls_real *)call->x[0] + at, n = (dls_real)rows * (dls_real)each;
    dls_real *sum = (dls_real *)dls_op_scratch(call, thread), *square = sum + c, lo, hi;
    dls_real *mean = (dls_real *)call->saved + (size_t)sample * (size_t)(2 * groups + 2 * c);
    dls_real *istd = mean + groups, *scale = istd + groups, *shift = scale + c;
    int32_t g, j;
    DLSI_K(call->cx, col_stats, x, rows, c, x, sum, square);
    for (g = 0; g < groups; g++) {
        dls_real total = (dls_real)0, about = (dls_real)0;
        for (j = g * each; j < (g + 1) * each; j++) total += sum[j] + (dls_real)rows * x[j];
        mean[g] = total / n;
        for (j = g * each; j < (g + 1) * each; j++) {
            const dls_real d = x[j] - mean[g];
            about += square[j] + (d + d) * sum[j] + (dls_real)rows * d * d;
        }
        if (about < (dls_real)0) about = (dls_real)0;
        istd[g] = (dls_real)1 / dlsi_sqrt_real(about / n + (dls_real)call->attr->f[0]);
        for (j = g * each; j < (g + 1) * each; j++) {
            scale[j] = call->w[0][j] * istd[g];
            shift[j] = call->w[1][j] - mean[g] * scale[j];
        }
    }
    dlsi_call_clamp(call, &lo, &hi);
    DLSI_K(call->cx, col_affine, x, rows, c, scale, shift, (dls_real *)call->y + at, lo, hi);
}
DLSI_FN dls_status dlsi_groupnorm_forward(const dls_op_call *call) {
    dls_parallel_for(call->cx->pool, call->n, dlsi_groupnorm_task, (void *)call);
    return DLS_OK;
}
DLSI_FN void dlsi_groupnorm_grad_task(void *arg, int32_t sample, int32_t thread) {
    const dls_op_call *call = (const dls_op_call *)arg;
    const int32_t c = call->ys.c, groups = call->attr->i[0], each = c / groups;
    const size_t rows = (size_t)call->ys.h * (size_t)call->ys.w,
                 at = (size_t)sample * rows * (size_t)c;
    const dls_real *x = (const dls_real *)call->x[0] + at, n = (dls_real)rows * (dls_real)each;
    const dls_real *mean =
        (const dls_real *)call->saved + (size_t)sample * (size_t)(2 * groups + 2 * c);
    const dls_real *istd = mean + groups, *scale = istd + groups, *shift = scale + c;
    dls_real *a = (dls_real *)dls_op_scratch(call, thread), *b = a + c, *d = b + c, *m = d + c, lo,
             hi;
    dls_real *dbias = (dls_real *)call->work + (size_t)sample * 2 * (size_t)c, *dgain = dbias + c;
    int32_t g, j;
    dlsi_call_clamp(call, &lo, &hi);
    for (j = 0; j < c; j++) m[j] = mean[j / each];
    DLSI_K(call->cx, col_grad_stats, x, call->dy + at, rows, c, m, scale, shift, lo, hi, dbias,
           dgain);
    for (g = 0; g < groups; g++) {
        dls_real sum = (dls_real)0, product = (dls_real)0;
        for (j = g * each; j < (g + 1) * each; j++) {
            dgain[j] *= istd[g]; /* sum of dy xhat of the channel */
            sum += call->w[0][j] * dbias[j];
            product += call->w[0][j] * dgain[j];
        }
        for (j = g * each; j < (g + 1) * each; j++) {
            a[j] = scale[j];
            b[j] = -istd[g] * istd[g] * product / n;
            d[j] = -istd[g] * sum / n - b[j] * mean[g];
        }
    }
    if (call->dx[0] != NULL)
        DLSI_K(call->cx, col_grad, x, call->dy + at, rows, c, a, b, d, scale, shift, lo, hi,
               call->dx[0] + at, (call->dx_add & 1u) != 0);
}
DLSI_FN dls_status dlsi_groupnorm_backward(const dls_op_call *call) {
    const int32_t c = call->ys.c;
    const dls_real *part = (const dls_real *)call->work;
    int32_t p;
    dls_parallel_for(call->cx->pool, call->n, dlsi_groupnorm_grad_task, (void *)call);
    for (p = 0; p < 2; p++) { /* gain's sums stand after bias's */
        if (call->dw[p] == NULL) continue;
        dlsi_add_parts(call->cx, part + (p == 0 ? c : 0), 2 * (size_t)c, call->n, call->dw[p],
                       (size_t)c, call->dw_add);
        dlsi_ready(call, p, (size_t)c);
    }
    return DLS_OK;
}
DLS_API const dls_op *dls_op_groupnorm(void) {
    static const dls_op row = {"groupnorm",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_groupnorm_shape,
                               dlsi_groupnorm_forward,
                               DLSI_BACKWARD(dlsi_groupnorm_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- layernorm, rmsnorm ----  f: eps.  saved: mean and 1 / deviation per row */

typedef struct dlsi_rownorm {
    const dls_op_call *call;
    dls_real *mean, *istd, *part;
    size_t rows, per_part;
    int32_t c;
} dlsi_rownorm;
DLSI_FN void dlsi_rownorm_setup(const dls_op_call *call, bool centred, dlsi_rownorm *t) {
    t->call = call;
    t->rows = (size_t)call->n * (size_t)call->ys.h * (size_t)call->ys.w;
    t->per_part = dlsi_colsum_rows(t->rows);
    t->c = call->ys.c;
    t->istd = (dls_real *)call->saved;
    t->mean = centred ? t->istd + t->rows : NULL;
    t->part = (dls_real *)call->work;
}
DLSI_FN dls_status dlsi_rownorm_shape(const dls_op_site *site, dls_op_spec *spec, bool centred) {
    const int32_t c = site->x[0].c;
    const size_t rows = (size_t)site->x[0].h * (size_t)site->x[0].w;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (!(site->attr->f[0] > 0.0f))
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("eps must be positive"), 0, 0, 0);
    (void)dlsi_y_from_x(site, spec);
    dlsi_param(spec, "gain", 1, 1, 1, c, DLS_INIT_ONE, 0, DLS_PARAM_NO_DECAY);
    if (centred) dlsi_param(spec, "bias", 1, 1, 1, c, DLS_INIT_ZERO, 0, DLS_PARAM_NO_DECAY);
    spec->macs = DLSI_MACS(2.0 * (double)dlsi_count(spec->y));
    spec->keep_x = 1;
    spec->saved_sample = dlsi_reals(rows * (centred ? 2u : 1u));
    spec->dx_inplace = true;
    spec->inplace = !site->train;
    spec->work = dlsi_reals(dlsi_colsum_parts((size_t)site->batch * rows) * (size_t)c);
    return DLS_OK;
}
DLSI_FN void dlsi_rownorm_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_rownorm *t = (const dlsi_rownorm *)arg;
    const size_t at = first * (size_t)t->c;
    (void)thread;
    DLSI_K(t->call->cx, norm, (const dls_real *)t->call->x[0] + at, (dls_real *)t->call->y + at,
           count, t->c, t->call->w[0], t->call->w[1], (dls_real)t->call->attr->f[0],
           t->mean != NULL ? t->mean + first : NULL, t->istd + first);
}
DLSI_FN void dlsi_rownorm_gain_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_rownorm *t = (const dlsi_rownorm *)arg;
    const size_t first = (size_t)task * t->per_part, at = first * (size_t)t->c;
    (void)thread;
    DLSI_K(t->call->cx, norm_grad_gain, (const dls_real *)t->call->x[0] + at, t->call->dy + at,
           dlsi_min_size(t->per_part, t->rows - first), t->c,
           t->mean != NULL ? t->mean + first : NULL, t->istd + first,
           t->part + (size_t)task * (size_t)t->c);
}
DLSI_FN void dlsi_rownorm_dx_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_rownorm *t = (const dlsi_rownorm *)arg;
    const size_t at = first * (size_t)t->c;
    (void)thread;
    DLSI_K(t->call->cx, norm_grad, (const dls_real *)t->call->x[0] + at, t->call->dy + at,
           t->call->dx[0] + at, count, t->c, t->call->w[0],
           t->mean != NULL ? t->mean + first : NULL, t->istd + first, (t->call->dx_add & 1u) != 0);
}
DLSI_FN dls_status dlsi_rownorm_forward(const dls_op_call *call, bool centred) {
    dlsi_rownorm t;
    dlsi_rownorm_setup(call, centred, &t);
    dlsi_par_spans(call->cx, t.rows, (size_t)dlsi_max_i32(1, DLSI_GRAIN / t.c), dlsi_rownorm_span,
                   &t);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_rownorm_backward(const dls_op_call *call, bool centred) {
    dlsi_rownorm t;
    dlsi_rownorm_setup(call, centred, &t);
    if (call->dw[0] != NULL) {
        const int32_t parts = (int32_t)dlsi_colsum_parts(t.rows);
        dls_parallel_for(call->cx->pool, parts, dlsi_rownorm_gain_task, &t);
        dlsi_add_parts(call->cx, t.part, (size_t)t.c, parts, call->dw[0], (size_t)t.c,
                       call->dw_add);
        dlsi_ready(call, 0, (size_t)t.c);
    }
    if (centred && call->dw[1] != NULL) {
        dlsi_col_sum(call->cx, call->dy, t.rows, t.c, t.part, call->dw[1], call->dw_add);
        dlsi_ready(call, 1, (size_t)t.c);
    }
    if (call->dx[0] != NULL)
        dlsi_par_spans(call->cx, t.rows, (size_t)dlsi_max_i32(1, DLSI_GRAIN / t.c),
                       dlsi_rownorm_dx_span, &t);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_layernorm_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_rownorm_shape(site, spec, true);
}
DLSI_FN dls_status dlsi_rmsnorm_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_rownorm_shape(site, spec, false);
}
DLSI_FN dls_status dlsi_layernorm_forward(const dls_op_call *call) {
    return dlsi_rownorm_forward(call, true);
}
DLSI_FN dls_status dlsi_layernorm_backward(const dls_op_call *call) {
    return dlsi_rownorm_backward(call, true);
}
DLSI_FN dls_status dlsi_rmsnorm_forward(const dls_op_call *call) {
    return dlsi_rownorm_forward(call, false);
}
DLSI_FN dls_status dlsi_rmsnorm_backward(const dls_op_call *call) {
    return dlsi_rownorm_backward(call, false);
}
DLS_API const dls_op *dls_op_layernorm(void) {
    static const dls_op row = {"layernorm",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_layernorm_shape,
                               dlsi_layernorm_forward,
                               DLSI_BACKWARD(dlsi_layernorm_backward),
                               NULL,
                               NULL};
    return &row;
}
DLS_API const dls_op *dls_op_rmsnorm(void) {
    static const dls_op row = {"rmsnorm",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_rmsnorm_shape,
                               dlsi_rmsnorm_forward,
                               DLSI_BACKWARD(dlsi_rmsnorm_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- act ----  i: act last. f: slope */

DLSI_FN dls_status dlsi_actop_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t act = site->attr->i[DLS_ATTR_ACT];
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (act < 0 || act >= (int32_t)DLS_ACT_COUNT)
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("there is no activation {0}"), act, 0, 0);
    if (!(site->attr->f[0] >= 0.0f) || !(site->attr->f[0] <= 1.0f))
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("the slope of leaky ReLU must be in 0..1"), 0,
                           0, 0);
    (void)dlsi_y_from_x(site, spec);
    spec->macs = DLSI_MACS((double)dlsi_count(spec->y));
    spec->keep_y = dlsi_act_from_y((dls_act)act);
    spec->keep_x = spec->keep_y ? 0 : 1;
    spec->inplace = 1;
    spec->dx_inplace = true;
    return DLS_OK;
}
DLSI_FN void dlsi_actop_ew(const dls_op_call *call, dlsi_ew *e) {
    memset(e, 0, sizeof *e);
    e->call = call;
    e->act = dlsi_attr_act(call->attr);
    e->slope = call->attr->f[0];
}
DLSI_FN dls_status dlsi_actop_forward(const dls_op_call *call) {
    dlsi_ew e;
    dlsi_actop_ew(call, &e);
    e.a = (const dls_real *)call->x[0];
    e.y = (dls_real *)call->y;
    dlsi_par_spans(call->cx, (size_t)call->n * dlsi_count(call->ys), DLSI_GRAIN, dlsi_act_span, &e);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_actop_backward(const dls_op_call *call) {
    dlsi_ew e;
    dlsi_actop_ew(call, &e);
    e.a = (const dls_real *)(dlsi_act_from_y(e.act) ? call->y : call->x[0]);
    e.b = call->dy;
    e.y = call->dx[0];
    e.add = (call->dx_add & 1u) != 0;
    if (e.y != NULL)
        dlsi_par_spans(call->cx, (size_t)call->n * dlsi_count(call->ys), DLSI_GRAIN,
                       dlsi_act_grad_span, &e);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_act(void) {
    static const dls_op row = {"act",
                               1,
                               1,
                               DLS_MERGE_CLAMP,
                               dlsi_actop_shape,
                               dlsi_actop_forward,
                               DLSI_BACKWARD(dlsi_actop_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- softmax over the last axis ---- */

DLSI_FN dls_status dlsi_softmax_shape(const dls_op_site *site, dls_op_spec *spec) {
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    (void)dlsi_y_from_x(site, spec);
    spec->macs = DLSI_MACS(4.0 * (double)dlsi_count(spec->y));
    spec->keep_y = true;
    spec->inplace = 1;
    spec->dx_inplace = true;
    return DLS_OK;
}
DLSI_FN void dlsi_softmax_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dls_op_call *call = (const dls_op_call *)arg;
    const size_t at = first * (size_t)call->ys.c;
    (void)thread;
    DLSI_K(call->cx, softmax, (const dls_real *)call->x[0] + at, (dls_real *)call->y + at, count,
           call->ys.c, (dls_real)1, NULL);
}
DLSI_FN void dlsi_softmax_grad_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dls_op_call *call = (const dls_op_call *)arg;
    const size_t at = first * (size_t)call->ys.c;
    (void)thread;
    DLSI_K(call->cx, softmax_grad, (const dls_real *)call->y + at, call->dy + at, call->dx[0] + at,
           count, call->ys.c, (call->dx_add & 1u) != 0);
}
DLSI_FN dls_status dlsi_softmax_run(const dls_op_call *call, dlsi_span_fn fn) {
    dlsi_par_spans(call->cx, (size_t)call->n * (size_t)call->ys.h * (size_t)call->ys.w,
                   (size_t)dlsi_max_i32(1, DLSI_GRAIN / 4 / call->ys.c), fn, call);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_softmax_forward(const dls_op_call *call) {
    return dlsi_softmax_run(call, dlsi_softmax_span);
}
DLSI_FN dls_status dlsi_softmax_backward(const dls_op_call *call) {
    return call->dx[0] == NULL ? DLS_OK : dlsi_softmax_run(call, dlsi_softmax_grad_span);
}
DLS_API const dls_op *dls_op_softmax(void) {
    static const dls_op row = {"softmax",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_softmax_shape,
                               dlsi_softmax_forward,
                               DLSI_BACKWARD(dlsi_softmax_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- add, mul ----  i: act last (add only).  Input 1 may be fixed (one sample for all) or 1 x 1
   x c */

typedef enum dlsi_spread { DLSI_SPREAD_NONE, DLSI_SPREAD_FIXED, DLSI_SPREAD_CHANNELS } dlsi_spread;
DLSI_FN dlsi_spread dlsi_spread_of(dls_shape y, dls_shape b, bool fixed) {
    if (fixed) return DLSI_SPREAD_FIXED;
    return dls_shape_equal(y, b) ? DLSI_SPREAD_NONE : DLSI_SPREAD_CHANNELS;
}
DLSI_FN dls_status dlsi_binary_shape(const dls_op_site *site, dls_op_spec *spec, bool mul) {
    const dls_shape a = site->x[0], b = site->x[1];
    const bool channels = b.h == 1 && b.w == 1 && b.c == a.c && (site->fixed & 2u) == 0;
    dls_status st = dlsi_need_reals(site);
    if (st == DLS_OK && !mul) st = dlsi_need_fusable(site);
    if (st != DLS_OK) return st;
    if ((site->fixed & 1u) != 0 || (!dls_shape_equal(a, b) && !channels))
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("operands differ: {0} and {1} rows, {2} channels on the left; "
                                    "or both are parameters"),
                           a.h, b.h, a.c);
    (void)dlsi_y_from_x(site, spec);
    spec->macs = DLSI_MACS((double)dlsi_count(spec->y));
    spec->keep_x = mul ? 3 : 0;
    spec->keep_y = !mul && dlsi_attr_act(site->attr) != DLS_ACT_NONE;
    spec->inplace = 1u | (dls_shape_equal(a, b) && (site->fixed & 2u) == 0 ? 2u : 0u);
    spec->dx_inplace = !mul;
    if (site->cx != NULL && site->train &&
        dlsi_spread_of(a, b, (site->fixed & 2u) != 0) != DLSI_SPREAD_NONE)
        spec->work = dlsi_reals(dlsi_count(a) * (size_t)site->batch + 16 * dlsi_count(b));
    return DLS_OK;
}
DLSI_FN dls_status dlsi_addop_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_binary_shape(site, spec, false);
}
DLSI_FN dls_status dlsi_mulop_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_binary_shape(site, spec, true);
}
DLSI_FN void dlsi_addop_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_ew *e = (const dlsi_ew *)arg;
    (void)thread;
    DLSI_K(e->call->cx, add, e->a + first, e->b + first, e->y + first, count, e->lo, e->hi);
}
DLSI_FN void dlsi_mulop_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_ew *e = (const dlsi_ew *)arg;
    (void)thread;
    DLSI_K(e->call->cx, mul, e->a + first, e->b + first, e->y + first, count, e->add);
}
/* One sample of a spread operand. */
typedef struct dlsi_spread_job {
    dlsi_ew e;
    bool mul, channels;
} dlsi_spread_job;
DLSI_FN void dlsi_spread_task(void *arg, int32_t sample, int32_t thread) {
    const dlsi_spread_job *j = (const dlsi_spread_job *)arg;
    const dls_op_call *call = j->e.call;
    const size_t count = dlsi_count(call->ys), c = (size_t)call->ys.c, at = (size_t)sample * count;
    const dls_real *a = j->e.a + at, *b = j->e.b + (j->channels ? (size_t)sample * c : 0);
    dls_real *y = j->e.y + at;
    size_t i, step = j->channels ? c : count;
    (void)thread;
    for (i = 0; i < count; i += step) {
        if (j->mul)
            DLSI_K(call->cx, mul, a + i, b, y + i, step, j->e.add);
        else
            DLSI_K(call->cx, add, a + i, b, y + i, step, j->e.lo, j->e.hi);
    }
}
/* y (+)= a op b where b may be spread. */
DLSI_FN void dlsi_binary_run(const dls_op_call *call, const dls_real *a, const dls_real *b,
                             dls_real *y, bool mul, bool add, dls_real lo, dls_real hi) {
    const dlsi_spread spread = dlsi_spread_of(call->ys, call->xs[1], (call->fixed & 2u) != 0);
    dlsi_spread_job j;
    DLSI_ZERO(j);
    j.e.call = call;
    j.e.a = a;
    j.e.b = b;
    j.e.y = y;
    j.e.lo = lo;
    j.e.hi = hi;
    j.e.add = add;
    j.mul = mul;
    j.channels = spread == DLSI_SPREAD_CHANNELS;
    if (spread != DLSI_SPREAD_NONE)
        dls_parallel_for(call->cx->pool, call->n, dlsi_spread_task, &j);
    else
        dlsi_par_spans(call->cx, (size_t)call->n * dlsi_count(call->ys), DLSI_GRAIN,
                       mul ? dlsi_mulop_span : dlsi_addop_span, &j.e);
}
/* db (+)= g, summed over what b was spread over. */
DLSI_FN void dlsi_spread_sum(const dls_op_call *call, const dls_real *g, dls_real *db,
                             dls_real *part, bool add) {
    const dlsi_spread spread = dlsi_spread_of(call->ys, call->xs[1], (call->fixed & 2u) != 0);
    const size_t count = dlsi_count(call->ys), c = (size_t)call->ys.c;
    int32_t i;
    if (spread == DLSI_SPREAD_NONE) {
        dlsi_put(call->cx, g, db, (size_t)call->n * count, add);
    } else if (spread == DLSI_SPREAD_FIXED) {
        dlsi_col_sum(call->cx, g, (size_t)call->n, (int32_t)count, part, db, add);
    } else {
        for (i = 0; i < call->n; i++)
            dlsi_col_sum(call->cx, g + (size_t)i * count, count / c, (int32_t)c, part,
                         db + (size_t)i * c, add);
    }
}
DLSI_FN dls_status dlsi_addop_forward(const dls_op_call *call) {
    dls_real lo, hi;
    dlsi_call_clamp(call, &lo, &hi);
    dlsi_binary_run(call, (const dls_real *)call->x[0], (const dls_real *)call->x[1],
                    (dls_real *)call->y, false, false, lo, hi);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_addop_backward(const dls_op_call *call) {
    dlsi_fused_act_grad(call);
    if (call->dx[1] != NULL)
        dlsi_spread_sum(call, call->dy, call->dx[1], (dls_real *)call->work,
                        (call->dx_add & 2u) != 0);
    if (call->dx[0] != NULL && call->dx[0] != call->dy)
        dlsi_put(call->cx, call->dy, call->dx[0], (size_t)call->n * dlsi_count(call->ys),
                 (call->dx_add & 1u) != 0);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_mulop_forward(const dls_op_call *call) {
    dlsi_binary_run(call, (const dls_real *)call->x[0], (const dls_real *)call->x[1],
                    (dls_real *)call->y, true, false, (dls_real)0, (dls_real)0);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_mulop_backward(const dls_op_call *call) {
    const bool same =
        dlsi_spread_of(call->ys, call->xs[1], (call->fixed & 2u) != 0) == DLSI_SPREAD_NONE;
    const size_t all = (size_t)call->n * dlsi_count(call->ys);
    dlsi_ew e;
    if (call->dx[1] != NULL) {
        dls_real *product = (dls_real *)call->work;
        DLSI_ZERO(e);
        e.call = call;
        e.a = call->dy;
        e.b = (const dls_real *)call->x[0];
        e.y = same ? call->dx[1] : product;
        e.add = same && (call->dx_add & 2u) != 0;
        dlsi_par_spans(call->cx, all, DLSI_GRAIN, dlsi_mulop_span, &e);
        if (!same)
            dlsi_spread_sum(call, product, call->dx[1], product + all, (call->dx_add & 2u) != 0);
    }
    if (call->dx[0] != NULL)
        dlsi_binary_run(call, call->dy, (const dls_real *)call->x[1], call->dx[0], true,
                        (call->dx_add & 1u) != 0, (dls_real)0, (dls_real)0);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_add(void) {
    static const dls_op row = {"add",
                               2,
                               2,
                               DLS_MERGE_SUM,
                               dlsi_addop_shape,
                               dlsi_addop_forward,
                               DLSI_BACKWARD(dlsi_addop_backward),
                               NULL,
                               NULL};
    return &row;
}
DLS_API const dls_op *dls_op_mul(void) {
    static const dls_op row = {"mul",
                               2,
                               2,
                               DLS_MERGE_NONE,
                               dlsi_mulop_shape,
                               dlsi_mulop_forward,
                               DLSI_BACKWARD(dlsi_mulop_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- concat, slice ----  i: axis (concat); axis, first, count (slice).
   Along axis 0, 1 or 2 a tensor is `outer` blocks of consecutive elements. */

typedef struct dlsi_blocks {
    const dls_cx *cx;
    const dls_real *src;
    dls_real *dst;
    size_t src_step, dst_step, block;
    bool add;
} dlsi_blocks;
DLSI_FN size_t dlsi_axis_block(dls_shape s, int32_t axis) {
    return axis == 0 ? dlsi_count(s) : axis == 1 ? (size_t)s.w * (size_t)s.c : (size_t)s.c;
}
DLSI_FN size_t dlsi_axis_outer(dls_shape s, int32_t n, int32_t axis) {
    return (size_t)n * (axis > 0 ? (size_t)s.h : 1u) * (axis > 1 ? (size_t)s.w : 1u);
}
DLSI_FN int32_t dlsi_axis(dls_shape s, int32_t axis) {
    return axis == 0 ? s.h : axis == 1 ? s.w : s.c;
}
DLSI_FN dls_shape dlsi_with_axis(dls_shape s, int32_t axis, int32_t size) {
    if (axis == 0) s.h = size;
    if (axis == 1) s.w = size;
    if (axis == 2) s.c = size;
    return s;
}
DLSI_FN void dlsi_blocks_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_blocks *b = (const dlsi_blocks *)arg;
    size_t i;
    (void)thread;
    for (i = first; i < first + count; i++)
        dlsi_put(b->cx, b->src + i * b->src_step, b->dst + i * b->dst_step, b->block, b->add);
}
DLSI_FN void dlsi_copy_blocks(const dls_cx *cx, const dls_real *src, size_t src_step, dls_real *dst,
                              size_t dst_step, size_t block, size_t outer, bool add) {
    dlsi_blocks b;
    b.cx = cx;
    b.src = src;
    b.dst = dst;
    b.src_step = src_step;
    b.dst_step = dst_step;
    b.block = block;
    b.add = add;
    dlsi_par_spans(cx, outer, DLSI_GRAIN / dlsi_min_size(block, DLSI_GRAIN), dlsi_blocks_span, &b);
}
DLSI_FN dls_status dlsi_concat_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t axis = site->attr->i[0];
    int64_t total = 0;
    int32_t i;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (axis < 0 || axis > 2)
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("axis {0} is not 0, 1 or 2"), axis, 0, 0);
    for (i = 0; i < site->inputs; i++) {
        if (!dls_shape_equal(dlsi_with_axis(site->x[i], axis, 1),
                             dlsi_with_axis(site->x[0], axis, 1)))
            return dls_op_fail(site, DLS_E_SHAPE,
                               DLSI_MSG("input {0} differs from the first off axis {1}"), i, axis,
                               0);
        total += dlsi_axis(site->x[i], axis);
    }
    if (total <= DLS_DIM_MAX) spec->y = dlsi_with_axis(site->x[0], axis, (int32_t)total);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("the result is too large"), 0, 0, 0);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_concat_run(const dls_op_call *call, bool backward) {
    const int32_t axis = call->attr->i[0];
    const size_t whole = dlsi_axis_block(call->ys, axis),
                 outer = dlsi_axis_outer(call->ys, call->n, axis);
    size_t at = 0;
    int32_t i;
    for (i = 0; i < call->inputs; i++) {
        const size_t block = dlsi_axis_block(call->xs[i], axis);
        if (!backward)
            dlsi_copy_blocks(call->cx, (const dls_real *)call->x[i], block,
                             (dls_real *)call->y + at, whole, block, outer, false);
        else if (call->dx[i] != NULL)
            dlsi_copy_blocks(call->cx, call->dy + at, whole, call->dx[i], block, block, outer,
                             (call->dx_add >> i & 1u) != 0);
        at += block;
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_concat_forward(const dls_op_call *call) {
    return dlsi_concat_run(call, false);
}
DLSI_FN dls_status dlsi_concat_backward(const dls_op_call *call) {
    return dlsi_concat_run(call, true);
}
DLS_API const dls_op *dls_op_concat(void) {
    static const dls_op row = {"concat",
                               1,
                               DLS_OP_INPUTS,
                               DLS_MERGE_NONE,
                               dlsi_concat_shape,
                               dlsi_concat_forward,
                               DLSI_BACKWARD(dlsi_concat_backward),
                               NULL,
                               NULL};
    return &row;
}
DLSI_FN dls_status dlsi_slice_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t axis = site->attr->i[0], first = site->attr->i[1], count = site->attr->i[2];
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (axis < 0 || axis > 2)
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("axis {0} is not 0, 1 or 2"), axis, 0, 0);
    if (first < 0 || count < 1 || first > dlsi_axis(site->x[0], axis) - count)
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("{1} from {0} is not inside an axis of {2}"),
                           first, count, dlsi_axis(site->x[0], axis));
    spec->y = dlsi_with_axis(site->x[0], axis, count);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_slice_forward(const dls_op_call *call) {
    const int32_t axis = call->attr->i[0];
    const size_t unit = dlsi_axis_block(call->ys, axis) / (size_t)call->attr->i[2];
    dlsi_copy_blocks(call->cx, (const dls_real *)call->x[0] + (size_t)call->attr->i[1] * unit,
                     dlsi_axis_block(call->xs[0], axis), (dls_real *)call->y,
                     dlsi_axis_block(call->ys, axis), dlsi_axis_block(call->ys, axis),
                     dlsi_axis_outer(call->ys, call->n, axis), false);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_slice_backward(const dls_op_call *call) {
    const int32_t axis = call->attr->i[0];
    const size_t unit = dlsi_axis_block(call->ys, axis) / (size_t)call->attr->i[2];
    if (call->dx[0] == NULL) return DLS_OK;
    if ((call->dx_add & 1u) == 0)
        memset(call->dx[0], 0, (size_t)call->n * dlsi_count(call->xs[0]) * sizeof(dls_real));
    dlsi_copy_blocks(call->cx, call->dy, dlsi_axis_block(call->ys, axis),
                     call->dx[0] + (size_t)call->attr->i[1] * unit,
                     dlsi_axis_block(call->xs[0], axis), dlsi_axis_block(call->ys, axis),
                     dlsi_axis_outer(call->ys, call->n, axis), true);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_slice(void) {
    static const dls_op row = {"slice",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_slice_shape,
                               dlsi_slice_forward,
                               DLSI_BACKWARD(dlsi_slice_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- pad ----  i: top, left, bottom, right. f: value */

DLSI_FN dls_status dlsi_pad_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_attr *a = site->attr;
    const int64_t h = (int64_t)site->x[0].h + a->i[0] + a->i[2],
                  w = (int64_t)site->x[0].w + a->i[1] + a->i[3];
    int32_t i;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    for (i = 0; i < 4; i++)
        if (a->i[i] < 0 || a->i[i] > DLS_DIM_MAX / 4)
            return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("padding {0} is negative or too large"),
                               a->i[i], 0, 0);
    if (h <= DLS_DIM_MAX && w <= DLS_DIM_MAX)
        spec->y = dlsi_shape((int32_t)h, (int32_t)w, site->x[0].c);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("the result is too large"), 0, 0, 0);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_pad_run(const dls_op_call *call, bool backward) {
    const size_t row = (size_t)call->xs[0].w * (size_t)call->xs[0].c,
                 wide = (size_t)call->ys.w * (size_t)call->ys.c;
    const size_t count = (size_t)call->n * dlsi_count(call->ys);
    const size_t left = (size_t)call->attr->i[1] * (size_t)call->ys.c;
    size_t i, n;
    for (i = 0; !backward && i < count; i++) ((dls_real *)call->y)[i] = (dls_real)call->attr->f[0];
    for (n = 0; n < (size_t)call->n; n++) {
        const size_t at = n * dlsi_count(call->ys) + (size_t)call->attr->i[0] * wide + left;
        const size_t from = n * dlsi_count(call->xs[0]);
        if (!backward)
            dlsi_copy_blocks(call->cx, (const dls_real *)call->x[0] + from, row,
                             (dls_real *)call->y + at, wide, row, (size_t)call->xs[0].h, false);
        else
            dlsi_copy_blocks(call->cx, call->dy + at, wide, call->dx[0] + from, row, row,
                             (size_t)call->xs[0].h, (call->dx_add & 1u) != 0);
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_pad_forward(const dls_op_call *call) { return dlsi_pad_run(call, false); }
DLSI_FN dls_status dlsi_pad_backward(const dls_op_call *call) {
    return call->dx[0] == NULL ? DLS_OK : dlsi_pad_run(call, true);
}
DLS_API const dls_op *dls_op_pad(void) {
    static const dls_op row = {"pad",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_pad_shape,
                               dlsi_pad_forward,
                               DLSI_BACKWARD(dlsi_pad_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- reshape ----  i: h, w, c.  Same memory */

DLSI_FN dls_status dlsi_reshape_shape(const dls_op_site *site, dls_op_spec *spec) {
    const dls_attr *a = site->attr;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    spec->y = dlsi_shape(a->i[0], a->i[1], a->i[2]);
    if (dls_shape_count(spec->y) != dls_shape_count(site->x[0]) || dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("{0} x {1} x {2} has not as many elements as the input"),
                           a->i[0], a->i[1], a->i[2]);
    spec->alias = true;
    spec->dx_inplace = true;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_alias_forward(const dls_op_call *call) {
    if (call->y != call->x[0])
        memcpy(call->y, call->x[0], (size_t)call->n * dlsi_count(call->ys) * sizeof(dls_real));
    return DLS_OK;
}
DLSI_FN dls_status dlsi_alias_backward(const dls_op_call *call) {
    if (call->dx[0] != NULL && call->dx[0] != call->dy)
        dlsi_put(call->cx, call->dy, call->dx[0], (size_t)call->n * dlsi_count(call->ys),
                 (call->dx_add & 1u) != 0);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_reshape(void) {
    static const dls_op row = {"reshape",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_reshape_shape,
                               dlsi_alias_forward,
                               DLSI_BACKWARD(dlsi_alias_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- transpose ----  i: perm[3] */

DLSI_FN dls_status dlsi_transpose_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t *p = site->attr->i;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (p[0] < 0 || p[0] > 2 || p[1] < 0 || p[1] > 2 || p[2] < 0 || p[2] > 2 || p[0] == p[1] ||
        p[0] == p[2] || p[1] == p[2])
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("{0}, {1}, {2} is not an order of axes 0, 1, 2"), p[0], p[1],
                           p[2]);
    spec->y = dlsi_shape(dlsi_axis(site->x[0], p[0]), dlsi_axis(site->x[0], p[1]),
                         dlsi_axis(site->x[0], p[2]));
    return DLS_OK;
}
typedef struct dlsi_transpose {
    const dls_op_call *call;
    bool backward;
} dlsi_transpose;
DLSI_FN void dlsi_transpose_task(void *arg, int32_t sample, int32_t thread) {
    const dlsi_transpose *t = (const dlsi_transpose *)arg;
    const dls_op_call *call = t->call;
    const dls_shape x = call->xs[0], y = call->ys;
    const size_t step[3] = {(size_t)x.w * (size_t)x.c, (size_t)x.c, 1},
                 at = (size_t)sample * dlsi_count(x);
    const size_t s0 = step[call->attr->i[0]], s1 = step[call->attr->i[1]],
                 s2 = step[call->attr->i[2]];
    const bool add = (call->dx_add & 1u) != 0;
    size_t i, j, k, o = at;
    (void)thread;
    for (i = 0; i < (size_t)y.h; i++) {
        for (j = 0; j < (size_t)y.w; j++) {
            for (k = 0; k < (size_t)y.c; k++, o++) {
                const size_t e = at + i * s0 + j * s1 + k * s2;
                if (!t->backward)
                    ((dls_real *)call->y)[o] = ((const dls_real *)call->x[0])[e];
                else
                    call->dx[0][e] = add ? call->dx[0][e] + call->dy[o] : call->dy[o];
            }
        }
    }
}
DLSI_FN dls_status dlsi_transpose_run(const dls_op_call *call, bool backward) {
    dlsi_transpose t;
    t.call = call;
    t.backward = backward;
    dls_parallel_for(call->cx->pool, call->n, dlsi_transpose_task, &t);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_transpose_forward(const dls_op_call *call) {
    return dlsi_transpose_run(call, false);
}
DLSI_FN dls_status dlsi_transpose_backward(const dls_op_call *call) {
    return call->dx[0] == NULL ? DLS_OK : dlsi_transpose_run(call, true);
}
DLS_API const dls_op *dls_op_transpose(void) {
    static const dls_op row = {"transpose",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_transpose_shape,
                               dlsi_transpose_forward,
                               DLSI_BACKWARD(dlsi_transpose_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- upsample ----  i: factor, bilinear */

DLSI_FN dls_status dlsi_upsample_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t f = site->attr->i[0];
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (f >= 1 && f <= 1024 && dlsi_fits(f, site->x[0].h) && dlsi_fits(f, site->x[0].w))
        spec->y = dlsi_shape(site->x[0].h * f, site->x[0].w * f, site->x[0].c);
    if (dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("factor {0} is not 1..1024, or the result is too large"), f, 0,
                           0);
    spec->macs = DLSI_MACS((double)dlsi_count(spec->y) * (site->attr->i[1] != 0 ? 4.0 : 0.0));
    return DLS_OK;
}
/* Where output i looks along an axis: rows a and b, of which b counts by the returned share. */
DLSI_FN dls_real dlsi_upsample_at(int32_t i, int32_t factor, int32_t size, bool bilinear,
                                  int32_t *a, int32_t *b) {
    dls_real at = ((dls_real)i + (dls_real)0.5) / (dls_real)factor - (dls_real)0.5;
    *a = *b = i / factor;
    if (!bilinear) return (dls_real)0;
    if (at < (dls_real)0) at = (dls_real)0;
    *a = (int32_t)at;
    *b = dlsi_min_i32(*a + 1, size - 1);
    return at - (dls_real)*a;
}
typedef struct dlsi_upsample {
    const dls_op_call *call;
    bool backward;
} dlsi_upsample;
DLSI_FN void dlsi_upsample_task(void *arg, int32_t sample, int32_t thread) {
    const dlsi_upsample *t = (const dlsi_upsample *)arg;
    const dls_op_call *call = t->call;
    const dls_shape x = call->xs[0], y = call->ys;
    const bool bilinear = call->attr->i[1] != 0;
    const size_t c = (size_t)x.c, from = (size_t)sample * dlsi_count(x),
                 to = (size_t)sample * dlsi_count(y);
    int32_t i, j, k;
    (void)thread;
    if (t->backward && (call->dx_add & 1u) == 0)
        memset(call->dx[0] + from, 0, dlsi_count(x) * sizeof(dls_real));
    for (i = 0; i < y.h; i++) {
        int32_t r[2], s[2];
        const dls_real v = dlsi_upsample_at(i, call->attr->i[0], x.h, bilinear, &r[0], &r[1]);
        for (j = 0; j < y.w; j++) {
            const dls_real u = dlsi_upsample_at(j, call->attr->i[0], x.w, bilinear, &s[0], &s[1]);
            const size_t out = to + ((size_t)i * (size_t)y.w + (size_t)j) * c;
            for (k = 0; k < (bilinear ? 4 : 1); k++) {
                const size_t in = from + ((size_t)r[k / 2] * (size_t)x.w + (size_t)s[k % 2]) * c;
                const dls_real share =
                    (k / 2 != 0 ? v : (dls_real)1 - v) * (k % 2 != 0 ? u : (dls_real)1 - u);
                if (!t->backward)
                    DLSI_K(call->cx, axpby, share, (const dls_real *)call->x[0] + in,
                           k > 0 ? (dls_real)1 : (dls_real)0, (dls_real *)call->y + out, c);
                else
                    DLSI_K(call->cx, axpby, share, call->dy + out, (dls_real)1, call->dx[0] + in,
                           c);
            }
        }
    }
}
DLSI_FN dls_status dlsi_upsample_run(const dls_op_call *call, bool backward) {
    dlsi_upsample t;
    t.call = call;
    t.backward = backward;
    dls_parallel_for(call->cx->pool, call->n, dlsi_upsample_task, &t);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_upsample_forward(const dls_op_call *call) {
    return dlsi_upsample_run(call, false);
}
DLSI_FN dls_status dlsi_upsample_backward(const dls_op_call *call) {
    return call->dx[0] == NULL ? DLS_OK : dlsi_upsample_run(call, true);
}
DLS_API const dls_op *dls_op_upsample(void) {
    static const dls_op row = {"upsample",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_upsample_shape,
                               dlsi_upsample_forward,
                               DLSI_BACKWARD(dlsi_upsample_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- dropout ----  f: p */

DLSI_FN dls_status dlsi_dropout_shape(const dls_op_site *site, dls_op_spec *spec) {
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (!(site->attr->f[0] >= 0.0f) || !(site->attr->f[0] < 1.0f))
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("the probability must be in [0, 1)"), 0, 0, 0);
    (void)dlsi_y_from_x(site, spec);
    spec->alias = !site->train;
    spec->random = true;
    spec->inplace = 1;
    spec->dx_inplace = true;
    return DLS_OK;
}
typedef struct dlsi_dropout {
    const dls_op_call *call;
    const dls_real *from;
    dls_real *to;
    bool add;
} dlsi_dropout;
DLSI_FN void dlsi_dropout_task(void *arg, int32_t sample, int32_t thread) {
    const dlsi_dropout *t = (const dlsi_dropout *)arg;
    const dls_op_call *call = t->call;
    const size_t count = dlsi_count(call->ys), at = (size_t)sample * count;
    const double p = (double)call->attr->f[0];
    (void)thread;
    DLSI_K(call->cx, dropout, t->from + at, t->to + at, count,
           dlsi_seed(call->seed, (uint64_t)(call->sample + sample)), 0,
           (uint32_t)(p * 4294967296.0), (dls_real)(1.0 / (1.0 - p)), t->add);
}
DLSI_FN dls_status dlsi_dropout_forward(const dls_op_call *call) {
    dlsi_dropout t;
    t.call = call;
    t.from = (const dls_real *)call->x[0];
    t.to = (dls_real *)call->y;
    t.add = false;
    if (!call->train) return dlsi_alias_forward(call);
    dls_parallel_for(call->cx->pool, call->n, dlsi_dropout_task, &t);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_dropout_backward(const dls_op_call *call) {
    dlsi_dropout t;
    t.call = call;
    t.from = call->dy;
    t.to = call->dx[0];
    t.add = (call->dx_add & 1u) != 0;
    if (!call->train) return dlsi_alias_backward(call);
    if (t.to != NULL) dls_parallel_for(call->cx->pool, call->n, dlsi_dropout_task, &t);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_dropout(void) {
    static const dls_op row = {"dropout",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_dropout_shape,
                               dlsi_dropout_forward,
                               DLSI_BACKWARD(dlsi_dropout_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- embedding ----  i: vocabulary, dim. f: deviation of initial weights */

DLSI_FN dls_status dlsi_embedding_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t v = site->attr->i[0], d = site->attr->i[1];
    if (site->dtype[0] != DLS_I32 || site->x[0].c != 1 || site->x[0].w != 1)
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("the input must be a row of ids, from input_ids"), 0, 0, 0);
    spec->y = dlsi_shape(site->x[0].h, 1, d);
    if (v < 1 || d < 1 || !dlsi_fits(v, d) || dls_shape_count(spec->y) == 0)
        return dls_op_fail(site, DLS_E_ARG,
                           DLSI_MSG("a table of {0} x {1} is too small or too large"), v, d, 0);
    dlsi_param(spec, "table", 1, 1, v, d, DLS_INIT_NORMAL, site->attr->f[0], 0);
    spec->keep_x = 1;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_embedding_forward(const dls_op_call *call) {
    const int32_t *id = (const int32_t *)call->x[0];
    const size_t rows = (size_t)call->n * (size_t)call->xs[0].h, d = (size_t)call->ys.c;
    size_t i;
    for (i = 0; i < rows; i++) {
        if (id[i] < 0 || id[i] >= call->attr->i[0]) return DLS_E_ARG;
        memcpy((dls_real *)call->y + i * d, call->w[0] + (size_t)id[i] * d, d * sizeof(dls_real));
    }
    return DLS_OK;
}
/* Columns [first, first + count) of every gradient row, in the order of the rows. */
DLSI_FN void dlsi_embedding_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dls_op_call *call = (const dls_op_call *)arg;
    const int32_t *id = (const int32_t *)call->x[0];
    const size_t rows = (size_t)call->n * (size_t)call->xs[0].h, d = (size_t)call->ys.c;
    size_t i;
    (void)thread;
    for (i = 0; !call->dw_add && i < (size_t)call->attr->i[0]; i++)
        memset(call->dw[0] + i * d + first, 0, count * sizeof(dls_real));
    for (i = 0; i < rows; i++)
        dlsi_put(call->cx, call->dy + i * d + first, call->dw[0] + (size_t)id[i] * d + first, count,
                 true);
}
DLSI_FN dls_status dlsi_embedding_backward(const dls_op_call *call) {
    const size_t d = (size_t)call->ys.c, threads = (size_t)dls_pool_threads(call->cx->pool);
    if (call->dw[0] == NULL) return DLS_OK;
    dlsi_par_spans(call->cx, d, dlsi_round_up((d + threads - 1) / threads, 16), dlsi_embedding_span,
                   call);
    dlsi_ready(call, 0, (size_t)call->attr->i[0] * d);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_embedding(void) {
    static const dls_op row = {"embedding",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_embedding_shape,
                               dlsi_embedding_forward,
                               DLSI_BACKWARD(dlsi_embedding_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- rope ----  i: heads. f: base.  Rows of h positions; pairs (i, i + head_dim / 2) */

DLSI_FN dls_status dlsi_rope_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t heads = site->attr->i[0];
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (heads < 1 || site->x[0].w != 1 || site->x[0].c % heads != 0 ||
        site->x[0].c / heads % 2 != 0 || !(site->attr->f[0] > 1.0f))
        return dls_op_fail(
            site, DLS_E_SHAPE,
            DLSI_MSG("{0} heads on {1} channels: head_dim must be even, width 1, base above 1"),
            heads, site->x[0].c, 0);
    (void)dlsi_y_from_x(site, spec);
    spec->macs = DLSI_MACS(2.0 * (double)dlsi_count(spec->y));
    spec->inplace = 1;
    spec->dx_inplace = true;
    spec->work = dlsi_reals((size_t)site->x[0].h * (size_t)(site->x[0].c / heads));
    return DLS_OK;
}
/* cos and sin of t theta_i for all positions: theta by exp, then one rotation a step. */
DLSI_FN void dlsi_rope_table(const dls_op_call *call, dls_real *table) {
    const int32_t half = call->ys.c / call->attr->i[0] / 2;
    int32_t i, t;
    for (i = 0; i < half; i++) {
        const double theta =
            dlsi_exp(-(double)i / (double)half * dlsi_log((double)call->attr->f[0]));
        const double ct = dlsi_cos(theta), st = dlsi_sin(theta);
        double c = 1.0, s = 0.0;
        for (t = 0; t < call->ys.h; t++) {
            const double next = c * ct - s * st;
            table[((ptrdiff_t)2 * t) * half + i] = (dls_real)c;
            table[((ptrdiff_t)2 * t + 1) * half + i] = (dls_real)s;
            s = s * ct + c * st;
            c = next;
        }
    }
}
typedef struct dlsi_rope {
    const dls_op_call *call;
    const dls_real *from;
    dls_real *to;
    dls_real sign;
    bool add;
} dlsi_rope;
DLSI_FN void dlsi_rope_task(void *arg, int32_t sample, int32_t thread) {
    const dlsi_rope *r = (const dlsi_rope *)arg;
    const dls_op_call *call = r->call;
    const int32_t heads = call->attr->i[0], half = call->ys.c / heads / 2;
    const size_t at = (size_t)sample * dlsi_count(call->ys);
    int32_t t, h, i;
    (void)thread;
    for (t = 0; t < call->ys.h; t++) {
        const dls_real *c = (const dls_real *)call->work + (ptrdiff_t)2 * t * half, *s = c + half;
        for (h = 0; h < heads; h++) {
            const size_t o = at + (size_t)t * (size_t)call->ys.c + (size_t)(2 * h * half);
            for (i = 0; i < half; i++) {
                const dls_real a = r->from[o + (size_t)i], b = r->from[o + (size_t)(i + half)];
                const dls_real y0 = a * c[i] - b * s[i] * r->sign,
                               y1 = b * c[i] + a * s[i] * r->sign;
                r->to[o + (size_t)i] = r->add ? r->to[o + (size_t)i] + y0 : y0;
                r->to[o + (size_t)(i + half)] = r->add ? r->to[o + (size_t)(i + half)] + y1 : y1;
            }
        }
    }
}
DLSI_FN dls_status dlsi_rope_run(const dls_op_call *call, const dls_real *from, dls_real *to,
                                 bool backward) {
    dlsi_rope r;
    r.call = call;
    r.from = from;
    r.to = to;
    r.sign = backward ? (dls_real)-1 : (dls_real)1;
    r.add = backward && (call->dx_add & 1u) != 0;
    dlsi_rope_table(call, (dls_real *)call->work);
    dls_parallel_for(call->cx->pool, call->n, dlsi_rope_task, &r);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_rope_forward(const dls_op_call *call) {
    return dlsi_rope_run(call, (const dls_real *)call->x[0], (dls_real *)call->y, false);
}
DLSI_FN dls_status dlsi_rope_backward(const dls_op_call *call) {
    return call->dx[0] == NULL ? DLS_OK : dlsi_rope_run(call, call->dy, call->dx[0], true);
}
DLS_API const dls_op *dls_op_rope(void) {
    static const dls_op row = {"rope",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_rope_shape,
                               dlsi_rope_forward,
                               DLSI_BACKWARD(dlsi_rope_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- attention ----  i: heads, kv_heads, causal.  Inputs q, k, v; or one with the three side by
   side. saved: log of each score row's sum of exponentials, [heads][t] per sample.
   Queries go through in blocks, so scratch grows with t, not t^2. */

#define DLSI_ATT_BLOCK 64
typedef struct dlsi_att {
    const dls_op_call *call;
    const dls_real *q, *k, *v;
    dls_real *dq, *dk, *dv;
    ptrdiff_t ldq, ldk, ldy; /* between positions */
    size_t q_sample, k_sample, y_sample;
    int32_t heads, kv_heads, group, d, tq, tk, nr;
    bool causal;
    dls_real scale;
} dlsi_att;
DLSI_FN dls_status dlsi_att_shape(const dls_op_site *site, dls_op_spec *spec) {
    const int32_t heads = site->attr->i[0], kv = site->attr->i[1];
    const bool packed = site->inputs == 1;
    const int32_t tk = packed ? site->x[0].h : site->x[site->inputs - 1].h;
    int32_t qc = site->x[0].c, i;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    if (heads < 1 || kv < 1 || heads % kv != 0 || heads > 65536)
        return dls_op_fail(site, DLS_E_ARG, DLSI_MSG("{1} key heads must divide {0} query heads"),
                           heads, kv, 0);
    if (packed) qc = (int32_t)((int64_t)qc * heads / ((int64_t)heads + 2 * (int64_t)kv));
    for (i = 0; i < site->inputs; i++)
        if (site->x[i].w != 1)
            return dls_op_fail(site, DLS_E_SHAPE, DLSI_MSG("input {0}: width must be 1"), i, 0, 0);
    if (site->inputs == 2 || qc % heads != 0 ||
        (packed && (int64_t)qc / heads * ((int64_t)heads + 2 * (int64_t)kv) != site->x[0].c) ||
        (!packed && (!dls_shape_equal(site->x[1], site->x[2]) ||
                     (int64_t)site->x[1].c != (int64_t)qc / heads * kv)) ||
        (site->attr->i[2] != 0 && tk != site->x[0].h))
        return dls_op_fail(site, DLS_E_SHAPE,
                           DLSI_MSG("channels are not {0} + 2 x {1} heads of one size (have {2}), "
                                    "or a causal t differs"),
                           heads, kv, site->x[0].c);
    spec->y = dlsi_shape(site->x[0].h, 1, qc);
    spec->macs = DLSI_MACS(2.0 * (double)site->x[0].h * tk * qc);
    spec->keep_x = packed ? 1 : 7;
    spec->keep_y = true;
    spec->saved_sample = dlsi_reals((size_t)heads * (size_t)site->x[0].h);
    if (site->cx != NULL) {
        const int32_t nr = DLSI_K_NR(site->cx), d = qc / heads;
        const size_t across = (size_t)(dlsi_ceil_div(tk, nr) * nr) * (size_t)d;
        const size_t along = (size_t)(dlsi_ceil_div(d, nr) * nr) * (size_t)tk;
        dlsi_gemm g;
        DLSI_ZERO(g);
        g.m = dlsi_max_i32(tk, DLSI_ATT_BLOCK);
        g.n = dlsi_max_i32(tk, d);
        g.k = DLSI_ATT_BLOCK;
        g.b_col = 2;
        spec->work_thread = dlsi_reals(across + along + (size_t)DLSI_ATT_BLOCK * (size_t)tk +
                                       dlsi_gemm_thread_reals(site->cx, &g) + 64);
        if (DLSI_TRAINS(site))
            spec->work_thread +=
                dlsi_reals(across + (size_t)DLSI_ATT_BLOCK * (size_t)tk + DLSI_ATT_BLOCK);
    }
    return DLS_OK;
}
DLSI_FN void dlsi_att_setup(const dls_op_call *call, dlsi_att *t) {
    const bool packed = call->inputs == 1;
    memset(t, 0, sizeof *t);
    t->call = call;
    t->heads = call->attr->i[0];
    t->kv_heads = call->attr->i[1];
    t->group = t->heads / t->kv_heads;
    t->causal = call->attr->i[2] != 0;
    t->d = call->ys.c / t->heads;
    t->tq = call->ys.h;
    t->tk = call->xs[packed ? 0 : 1].h;
    t->ldq = call->xs[0].c;
    t->ldk = call->xs[packed ? 0 : 1].c;
    t->ldy = call->ys.c;
    t->q_sample = dlsi_count(call->xs[0]);
    t->k_sample = dlsi_count(call->xs[packed ? 0 : 1]);
    t->y_sample = dlsi_count(call->ys);
    t->nr = DLSI_K_NR(call->cx);
    t->scale = (dls_real)1 / dlsi_sqrt_real((dls_real)t->d);
    t->q = (const dls_real *)call->x[0];
    t->k = packed ? t->q + t->heads * t->d : (const dls_real *)call->x[1];
    t->v = packed ? t->k + t->kv_heads * t->d : (const dls_real *)call->x[2];
    t->dq = call->dx[0];
    t->dk = packed ? (t->dq != NULL ? t->dq + t->heads * t->d : NULL) : call->dx[1];
    t->dv = packed ? (t->dq != NULL ? t->dk + t->kv_heads * t->d : NULL) : call->dx[2];
}
/* c (m x n) (+)= a b with b packed, or unpacked with rows b_k apart. */
DLSI_FN void dlsi_att_gemm(const dlsi_att *t, const dls_real *a, ptrdiff_t a_row, ptrdiff_t a_k,
                           const dls_real *b, ptrdiff_t b_k, dls_real *c, ptrdiff_t ldc, int32_t m,
                           int32_t n, int32_t k, bool cont, dls_real *work) {
    dlsi_gemm g;
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a = a;
    g.a_row = a_row;
    g.a_k = a_k;
    g.b = b;
    g.b_k = b_k;
    g.b_col = 1;
    g.b_packed = b_k == 0;
    g.c = c;
    g.ldc = ldc;
    g.m = m;
    g.n = n;
    g.k = k;
    g.cont = cont;
    DLSI_K(t->call->cx, gemm, &g, work);
}
DLSI_FN void dlsi_att_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_att *t = (const dlsi_att *)arg;
    const int32_t head = task % t->heads, kv = head / t->group, d = t->d, nr = t->nr;
    const size_t n = (size_t)(task / t->heads);
    const dls_real *q = t->q + n * t->q_sample + (ptrdiff_t)head * d;
    const dls_real *k = t->k + n * t->k_sample + (ptrdiff_t)kv * d,
                   *v = t->v + n * t->k_sample + (ptrdiff_t)kv * d;
    dls_real *y = (dls_real *)t->call->y + n * t->y_sample + (ptrdiff_t)head * d;
    dls_real *log_sum =
        (dls_real *)t->call->saved + (n * (size_t)t->heads + (size_t)head) * (size_t)t->tq;
    dls_real *kt = (dls_real *)dls_op_scratch(t->call, thread);
    dls_real *vp = kt + (ptrdiff_t)dlsi_ceil_div(t->tk, nr) * nr * d;
    dls_real *s = vp + (ptrdiff_t)dlsi_ceil_div(d, nr) * nr * t->tk;
    dls_real *work = s + (ptrdiff_t)DLSI_ATT_BLOCK * t->tk;
    int32_t i, r;
    DLSI_K(t->call->cx, pack, k, 1, t->ldk, d, t->tk, kt, (ptrdiff_t)d * nr);
    DLSI_K(t->call->cx, pack, v, t->ldk, 1, t->tk, d, vp, (ptrdiff_t)t->tk * nr);
    for (i = 0; i < t->tq; i += DLSI_ATT_BLOCK) {
        const int32_t rows = dlsi_min_i32(DLSI_ATT_BLOCK, t->tq - i),
                      seen = t->causal ? i + rows : t->tk;
        dlsi_att_gemm(t, q + i * t->ldq, t->ldq, 1, kt, 0, s, t->tk, rows, seen, d, false, work);
        for (r = 0; r < rows; r++) {
            const int32_t len = t->causal ? i + r + 1 : t->tk;
            DLSI_K(t->call->cx, softmax, s + (ptrdiff_t)r * t->tk, s + (ptrdiff_t)r * t->tk, 1, len,
                   t->scale, log_sum + i + r);
            memset(s + (ptrdiff_t)r * t->tk + len, 0, (size_t)(seen - len) * sizeof *s);
        }
        if (seen == t->tk) {
            dlsi_att_gemm(t, s, t->tk, 1, vp, 0, y + i * t->ldy, t->ldy, rows, d, seen, false,
                          work);
        } else { /* a part of packed rows: panels are tk apart, so column by panel */
            for (r = 0; r < d; r += nr)
                dlsi_att_gemm(t, s, t->tk, 1, vp + (ptrdiff_t)r * t->tk, 0, y + i * t->ldy + r,
                              t->ldy, rows, dlsi_min_i32(nr, d - r), seen, false, work);
        }
    }
}
DLSI_FN dls_status dlsi_att_forward(const dls_op_call *call) {
    dlsi_att t;
    dlsi_att_setup(call, &t);
    dls_parallel_for(call->cx->pool, call->n * t.heads, dlsi_att_task, &t);
    return DLS_OK;
}

typedef struct dlsi_att_scratch {
    dls_real *kt, *vt, *kp, *s, *ds, *dot, *work;
} dlsi_att_scratch;
/* One block of one query head: adds to dk and dv of its key head, writes dq. */
DLSI_FN void dlsi_att_grad_block(const dlsi_att *t, const dlsi_att_scratch *w, size_t n,
                                 int32_t head, int32_t kv, int32_t i, int32_t rows, int32_t seen) {
    const dls_op_call *call = t->call;
    const int32_t d = t->d;
    const dls_real *q = t->q + n * t->q_sample + (ptrdiff_t)head * d + i * t->ldq;
    const dls_real *y =
        (const dls_real *)call->y + n * t->y_sample + (ptrdiff_t)head * d + i * t->ldy;
    const dls_real *dy = call->dy + n * t->y_sample + (ptrdiff_t)head * d + i * t->ldy;
    const dls_real *log_sum =
        (const dls_real *)call->saved + (n * (size_t)t->heads + (size_t)head) * (size_t)t->tq + i;
    int32_t r, e;
    dlsi_att_gemm(t, q, t->ldq, 1, w->kt, 0, w->s, t->tk, rows, seen, d, false, w->work);
    dlsi_att_gemm(t, dy, t->ldy, 1, w->vt, 0, w->ds, t->tk, rows, seen, d, false, w->work);
    for (r = 0; r < rows; r++) {
        const int32_t len = t->causal ? i + r + 1 : t->tk;
        dls_real *s = w->s + (ptrdiff_t)r * t->tk, *ds = w->ds + (ptrdiff_t)r * t->tk;
        DLSI_K(call->cx, score_grad, s, ds, (size_t)len, t->scale, log_sum[r],
               DLSI_K(call->cx, dot, y + r * t->ldy, dy + r * t->ldy, (size_t)d));
        memset(s + len, 0, (size_t)(seen - len) * sizeof *s);
        memset(ds + len, 0, (size_t)(seen - len) * sizeof *ds);
    }
    if (t->dv != NULL)
        dlsi_att_gemm(t, w->s, 1, t->tk, dy, t->ldy, t->dv + n * t->k_sample + (ptrdiff_t)kv * d,
                      t->ldk, seen, d, rows, true, w->work);
    if (t->dk != NULL)
        dlsi_att_gemm(t, w->ds, 1, t->tk, q, t->ldq, t->dk + n * t->k_sample + (ptrdiff_t)kv * d,
                      t->ldk, seen, d, rows, true, w->work);
    if (t->dq != NULL) {
        for (e = 0; e < d; e += t->nr)
            dlsi_att_gemm(t, w->ds, t->tk, 1, w->kp + (ptrdiff_t)e * t->tk, 0,
                          t->dq + n * t->q_sample + (ptrdiff_t)head * d + i * t->ldq + e, t->ldq,
                          rows, dlsi_min_i32(t->nr, d - e), seen, (call->dx_add & 1u) != 0,
                          w->work);
    }
}
DLSI_FN void dlsi_att_grad_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_att *t = (const dlsi_att *)arg;
    const int32_t kv = task % t->kv_heads, d = t->d, nr = t->nr;
    const size_t n = (size_t)(task / t->kv_heads), from = n * t->k_sample + (size_t)kv * (size_t)d;
    const ptrdiff_t across = (ptrdiff_t)dlsi_ceil_div(t->tk, nr) * nr * d;
    const bool packed = t->call->inputs == 1;
    const uint32_t add = t->call->dx_add;
    dlsi_att_scratch w;
    int32_t i, h, j;
    w.kt = (dls_real *)dls_op_scratch(t->call, thread);
    w.vt = w.kt + across;
    w.kp = w.vt + across;
    w.s = w.kp + (ptrdiff_t)dlsi_ceil_div(d, nr) * nr * t->tk;
    w.ds = w.s + (ptrdiff_t)DLSI_ATT_BLOCK * t->tk;
    w.dot = w.ds + (ptrdiff_t)DLSI_ATT_BLOCK * t->tk;
    w.work = w.dot + DLSI_ATT_BLOCK;
    DLSI_K(t->call->cx, pack, t->k + from, 1, t->ldk, d, t->tk, w.kt, (ptrdiff_t)d * nr);
    DLSI_K(t->call->cx, pack, t->v + from, 1, t->ldk, d, t->tk, w.vt, (ptrdiff_t)d * nr);
    DLSI_K(t->call->cx, pack, t->k + from, t->ldk, 1, t->tk, d, w.kp, (ptrdiff_t)t->tk * nr);
    for (j = 0; j < t->tk; j++) {
        if (t->dk != NULL && (add >> (packed ? 0 : 1) & 1u) == 0)
            memset(t->dk + from + j * t->ldk, 0, (size_t)d * sizeof(dls_real));
        if (t->dv != NULL && (add >> (packed ? 0 : 2) & 1u) == 0)
            memset(t->dv + from + j * t->ldk, 0, (size_t)d * sizeof(dls_real));
    }
    for (h = kv * t->group; h < (kv + 1) * t->group; h++) {
        for (i = 0; i < t->tq; i += DLSI_ATT_BLOCK) {
            const int32_t rows = dlsi_min_i32(DLSI_ATT_BLOCK, t->tq - i);
            dlsi_att_grad_block(t, &w, n, h, kv, i, rows, t->causal ? i + rows : t->tk);
        }
    }
}
DLSI_FN dls_status dlsi_att_backward(const dls_op_call *call) {
    dlsi_att t;
    dlsi_att_setup(call, &t);
    dls_parallel_for(call->cx->pool, call->n * t.kv_heads, dlsi_att_grad_task, &t);
    return DLS_OK;
}
DLS_API const dls_op *dls_op_attention(void) {
    static const dls_op row = {"attention",
                               1,
                               3,
                               DLS_MERGE_NONE,
                               dlsi_att_shape,
                               dlsi_att_forward,
                               DLSI_BACKWARD(dlsi_att_backward),
                               NULL,
                               NULL};
    return &row;
}

/* ---- lstm, gru ----  i: hidden.  saved per sample: gates [t][gates hidden], then inner state
   [t][hidden] (lstm: the cell; gru: the candidate's recurrent part). Backward leaves the gates'
   gradients there. */

typedef struct dlsi_rnn {
    const dls_op_call *call;
    int32_t hidden, gates, t, per_task;
    bool lstm;
    dls_real *saved;
    size_t saved_sample;
    dls_real *side; /* gru backward: [n t][3 hidden], gradients on the recurrent side */
} dlsi_rnn;
DLSI_FN void dlsi_rnn_setup(const dls_op_call *call, bool lstm, dlsi_rnn *r) {
    memset(r, 0, sizeof *r);
    r->call = call;
    r->lstm = lstm;
    r->hidden = call->ys.c;
    r->gates = (lstm ? 4 : 3) * r->hidden;
    r->t = call->ys.h;
    r->saved = (dls_real *)call->saved;
    r->saved_sample = (size_t)r->t * (size_t)(r->gates + r->hidden);
    r->per_task = dlsi_max_i32(1, dlsi_ceil_div(call->n, 2 * dls_pool_threads(call->cx->pool)));
}
DLSI_FN dls_status dlsi_rnn_shape(const dls_op_site *site, dls_op_spec *spec, bool lstm) {
    const int32_t most = DLS_DIM_MAX / 8, hidden = dlsi_min_i32(site->attr->i[0], most + 1),
                  c = site->x[0].c, gates = hidden > 0 ? (lstm ? 4 : 3) * hidden : 0,
                  t = site->x[0].h;
    const float bound = hidden > 0 ? 1.0f / dlsi_sqrtf((float)hidden) : 0.0f;
    dls_status st = dlsi_need_batched(site);
    if (st != DLS_OK) return st;
    spec->y = dlsi_shape(t, 1, hidden);
    if (hidden < 1 || hidden > most || !dlsi_fits(gates, c) || !dlsi_fits(gates, hidden) ||
        dls_shape_count(spec->y) == 0 || site->x[0].w != 1 ||
        !dlsi_fits((int64_t)gates + hidden, t))
        return dls_op_fail(
            site, DLS_E_ARG,
            DLSI_MSG(
                "{0} hidden units on {1} channels: too few or too many, or the width is not 1"),
            hidden, c, 0);
    dlsi_param(spec, "weight_x", 1, 1, c, gates, DLS_INIT_UNIFORM, bound, 0);
    dlsi_param(spec, "weight_h", 1, 1, hidden, gates, DLS_INIT_UNIFORM, bound, 0);
    dlsi_param(spec, "bias", 1, 1, 1, gates, DLS_INIT_UNIFORM, bound, DLS_PARAM_NO_DECAY);
    if (!lstm)
        dlsi_param(spec, "bias_n", 1, 1, 1, hidden, DLS_INIT_UNIFORM, bound, DLS_PARAM_NO_DECAY);
    spec->macs = DLSI_MACS((double)t * gates * ((double)c + hidden));
    spec->keep_x = 1;
    spec->keep_y = true;
    spec->saved_sample = dlsi_reals((size_t)t * (size_t)(gates + hidden));
    if (site->cx != NULL) {
        const size_t rows = (size_t)site->batch * (size_t)t;
        dlsi_gemm g;
        DLSI_ZERO(g);
        g.m = dlsi_max_i32((int32_t)rows, dlsi_max_i32(hidden, c)); /* covers each product below */
        g.n = dlsi_max_i32(gates, dlsi_max_i32(hidden, c));
        g.k = g.m;
        g.b_col = 2;
        spec->work = dlsi_gemm_work(site->cx, &g);
        g.k = g.n;
        spec->work =
            dlsi_max_size(spec->work, dlsi_gemm_work(site->cx, &g)) +
            dlsi_reals(rows * (size_t)(gates + hidden) + (size_t)hidden + 17 * (size_t)gates + 64);
        spec->work_thread = dlsi_reals(dlsi_gemm_thread_reals(site->cx, &g) +
                                       (size_t)site->batch * (size_t)hidden * 3 + 16);
    }
    return DLS_OK;
}
/* c = a b (+ c): a rows x k with rows a_row apart, b k x n or its transpose, by the calling
   thread. */
DLSI_FN void dlsi_rnn_gemm(const dlsi_rnn *r, const dls_real *a, ptrdiff_t a_row, int32_t m,
                           const dls_real *b, bool transposed, int32_t k, int32_t n, dls_real *c,
                           ptrdiff_t ldc, bool cont, dls_real *work) {
    dlsi_gemm g;
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a = a;
    g.a_row = a_row;
    g.a_k = 1;
    g.b = b;
    g.b_k = transposed ? 1 : n;
    g.b_col = transposed ? k : 1;
    g.c = c;
    g.ldc = ldc;
    g.m = m;
    g.n = n;
    g.k = k;
    g.cont = cont;
    DLSI_K(r->call->cx, gemm, &g, work);
}
/* Gates of one sample and step, whose sums of products stand in g; q: gru's candidate, recurrent
   part. */
DLSI_FN void dlsi_rnn_cell(const dlsi_rnn *r, dls_real *g, dls_real *state, const dls_real *before,
                           dls_real *y, const dls_real *y_before) {
    const dls_cx *cx = r->call->cx;
    const int32_t hd = r->hidden;
    const size_t h = (size_t)hd;
    int32_t j;
    if (r->lstm) {
        DLSI_K(cx, act, DLS_ACT_SIGMOID, 0, g, g, 2 * h);
        DLSI_K(cx, act, DLS_ACT_TANH, 0, g + 2 * h, g + 2 * h, h);
        DLSI_K(cx, act, DLS_ACT_SIGMOID, 0, g + 3 * h, g + 3 * h, h);
        for (j = 0; j < hd; j++)
            state[j] =
                g[hd + j] * (before != NULL ? before[j] : (dls_real)0) + g[j] * g[2 * hd + j];
        DLSI_K(cx, act, DLS_ACT_TANH, 0, state, y, h);
        for (j = 0; j < hd; j++) y[j] *= g[3 * hd + j];
    } else {
        DLSI_K(cx, act, DLS_ACT_SIGMOID, 0, g, g, 2 * h);
        for (j = 0; j < hd; j++) g[2 * hd + j] += g[j] * state[j];
        DLSI_K(cx, act, DLS_ACT_TANH, 0, g + 2 * h, g + 2 * h, h);
        for (j = 0; j < hd; j++)
            y[j] = ((dls_real)1 - g[hd + j]) * g[2 * hd + j] +
                   (y_before != NULL ? g[hd + j] * y_before[j] : (dls_real)0);
    }
}
DLSI_FN void dlsi_rnn_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_rnn *r = (const dlsi_rnn *)arg;
    const int32_t h = r->hidden, first = task * r->per_task;
    const int32_t count = dlsi_min_i32(r->per_task, r->call->n - first);
    const ptrdiff_t y_row = (ptrdiff_t)r->t * h, inner = (ptrdiff_t)r->t * r->gates;
    dls_real *y = (dls_real *)r->call->y + first * y_row,
             *saved = r->saved + (size_t)first * r->saved_sample;
    dls_real *work = (dls_real *)dls_op_scratch(r->call, thread);
    dls_real *rec = work; /* gru: products with all of weight_h, [count][gates] */
    int32_t t, i, j;
    work += (size_t)r->call->n * (size_t)h * 3;
    for (t = 0; t < r->t; t++) {
        if (t > 0 && r->lstm)
            dlsi_rnn_gemm(r, y + (t - 1) * h, y_row, count, r->call->w[1], false, h, r->gates,
                          saved + t * r->gates, (ptrdiff_t)r->saved_sample, true, work);
        if (t > 0 && !r->lstm)
            dlsi_rnn_gemm(r, y + (t - 1) * h, y_row, count, r->call->w[1], false, h, r->gates, rec,
                          r->gates, false, work);
        for (i = 0; i < count; i++) {
            dls_real *g = saved + (size_t)i * r->saved_sample + t * r->gates;
            dls_real *state = saved + (size_t)i * r->saved_sample + inner + t * h,
                     *yi = y + i * y_row + t * h;
            if (!r->lstm) {
                const dls_real *p = rec + (ptrdiff_t)i * r->gates;
                for (j = 0; t > 0 && j < 2 * h; j++) g[j] += p[j];
                for (j = 0; j < h; j++)
                    state[j] = r->call->w[3][j] + (t > 0 ? p[2 * h + j] : (dls_real)0);
            }
            dlsi_rnn_cell(r, g, state, t > 0 ? state - h : NULL, yi, t > 0 ? yi - h : NULL);
        }
    }
}
DLSI_FN dls_status dlsi_rnn_forward(const dls_op_call *call, bool lstm) {
    const int32_t rows = call->n * call->xs[0].h;
    dls_real *sums = (dls_real *)call->work, *work;
    dlsi_rnn r;
    dlsi_gemm g;
    int32_t i;
    dlsi_rnn_setup(call, lstm, &r);
    work = sums + dlsi_round_up((size_t)rows * (size_t)r.gates, 16);
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a = (const dls_real *)call->x[0];
    g.a_row = g.k = call->xs[0].c;
    g.a_k = 1;
    g.b = call->w[0];
    g.b_k = g.ldc = g.n = r.gates;
    g.b_col = 1;
    g.bias = call->w[2];
    g.c = sums;
    g.m = rows;
    dlsi_gemm_run(call->cx, &g, work, NULL, NULL);
    for (i = 0; i < call->n; i++) /* gates stand beside the inner state, sample by sample */
        memcpy(r.saved + (size_t)i * r.saved_sample, sums + (ptrdiff_t)i * r.t * r.gates,
               (size_t)r.t * (size_t)r.gates * sizeof *sums);
    dls_parallel_for(call->cx->pool, dlsi_ceil_div(call->n, r.per_task), dlsi_rnn_task, &r);
    return DLS_OK;
}
/* One sample and step: dh in, gates' gradients out (in place of the gates), carried state's too. */
DLSI_FN void dlsi_rnn_cell_grad(const dlsi_rnn *r, dls_real *g, dls_real *state,
                                const dls_real *y_before, const dls_real *dh, dls_real *carry,
                                dls_real *side, bool first) {
    const int32_t h = r->hidden;
    const dls_real one = (dls_real)1;
    int32_t j;
    for (j = 0; j < h; j++) {
        if (r->lstm) {
            const dls_real i = g[j], f = g[h + j], c = g[2 * h + j], o = g[3 * h + j];
            const dls_real before = first ? (dls_real)0 : state[j - h];
            dls_real tc, dc;
            DLSI_K(r->call->cx, act, DLS_ACT_TANH, 0, &state[j], &tc, 1);
            dc = carry[j] + dh[j] * o * (one - tc * tc);
            g[j] = dc * c * i * (one - i);
            g[h + j] = dc * before * f * (one - f);
            g[2 * h + j] = dc * i * (one - c * c);
            g[3 * h + j] = dh[j] * tc * o * (one - o);
            carry[j] = dc * f;
        } else {
            const dls_real rr = g[j], z = g[h + j], n = g[2 * h + j], q = state[j];
            const dls_real before = first ? (dls_real)0 : y_before[j],
                           dn = dh[j] * (one - z) * (one - n * n);
            g[j] = dn * q * rr * (one - rr);
            g[h + j] = dh[j] * (before - n) * z * (one - z);
            g[2 * h + j] = dn;
            side[j] = g[j];
            side[h + j] = g[h + j];
            side[2 * h + j] = dn * rr;
            carry[j] = dh[j] * z;
        }
    }
}
DLSI_FN void dlsi_rnn_grad_task(void *arg, int32_t task, int32_t thread) {
    const dlsi_rnn *r = (const dlsi_rnn *)arg;
    const int32_t h = r->hidden, first = task * r->per_task;
    const int32_t count = dlsi_min_i32(r->per_task, r->call->n - first);
    const ptrdiff_t y_row = (ptrdiff_t)r->t * h, inner = (ptrdiff_t)r->t * r->gates;
    const dls_real *y = (const dls_real *)r->call->y + first * y_row,
                   *dy = r->call->dy + first * y_row;
    dls_real *saved = r->saved + (size_t)first * r->saved_sample,
             *back = (dls_real *)dls_op_scratch(r->call, thread);
    dls_real *carry = back + (size_t)r->call->n * (size_t)h,
             *dh = carry + (size_t)r->call->n * (size_t)h;
    dls_real *work = dh + (size_t)r->call->n * (size_t)h;
    int32_t t, i, j;
    memset(back, 0, (size_t)count * (size_t)h * sizeof *back);
    memset(carry, 0, (size_t)count * (size_t)h * sizeof *carry);
    for (t = r->t - 1; t >= 0; t--) {
        const ptrdiff_t side_row = (ptrdiff_t)r->t * r->gates;
        dls_real *side =
            r->side != NULL ? r->side + (first * r->t + t) * (ptrdiff_t)r->gates : NULL;
        for (i = 0; i < count; i++) {
            dls_real *g = saved + (size_t)i * r->saved_sample + t * r->gates;
            dls_real *state = saved + (size_t)i * r->saved_sample + inner + t * h,
                     *d = dh + (ptrdiff_t)i * h;
            for (j = 0; j < h; j++) {
                d[j] = dy[i * y_row + t * h + j] + back[(ptrdiff_t)i * h + j];
                if (!r->lstm) d[j] += carry[(ptrdiff_t)i * h + j];
            }
            dlsi_rnn_cell_grad(r, g, state, y + i * y_row + (t - 1) * h, d,
                               carry + (ptrdiff_t)i * h, side != NULL ? side + i * side_row : NULL,
                               t == 0);
        }
        if (t == 0) break;
        dlsi_rnn_gemm(r, r->lstm ? saved + t * r->gates : side,
                      r->lstm ? (ptrdiff_t)r->saved_sample : side_row, count, r->call->w[1], true,
                      r->gates, h, back, h, false, work);
    }
}
/* dw (+)= a^T b over all rows: a rows x m, b rows x n. */
DLSI_FN void dlsi_rnn_dw(const dls_op_call *call, const dls_real *a, int32_t m, const dls_real *b,
                         int32_t n, int32_t rows, int32_t param, dls_real *work) {
    dlsi_gemm g;
    if (call->dw[param] == NULL) return;
    DLSI_ZERO(g);
    (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
    g.a = a;
    g.a_row = 1;
    g.a_k = m;
    g.b = b;
    g.b_k = g.ldc = g.n = n;
    g.b_col = 1;
    g.c = call->dw[param];
    g.m = m;
    g.k = rows;
    g.res = call->dw_add ? g.c : NULL;
    dlsi_gemm_run(call->cx, &g, work, call->ready, call->ready_user);
}
DLSI_FN dls_status dlsi_rnn_backward(const dls_op_call *call, bool lstm) {
    const int32_t rows = call->n * call->xs[0].h, c = call->xs[0].c;
    dls_real *grads = (dls_real *)call->work, *before, *work;
    dlsi_rnn r;
    int32_t i;
    dlsi_rnn_setup(call, lstm, &r);
    before = grads + (size_t)rows * (size_t)r.gates;
    work = before + dlsi_round_up((size_t)rows * (size_t)r.hidden, 16);
    r.side = lstm ? NULL : grads;
    dls_parallel_for(call->cx->pool, dlsi_ceil_div(call->n, r.per_task), dlsi_rnn_grad_task, &r);
    for (i = 0; i < call->n; i++) { /* outputs one step earlier, rows beside gradients */
        dls_real *to = before + (size_t)i * dlsi_count(call->ys);
        memset(to, 0, (size_t)r.hidden * sizeof *to);
        memcpy(to + r.hidden, (const dls_real *)call->y + (size_t)i * dlsi_count(call->ys),
               (dlsi_count(call->ys) - (size_t)r.hidden) * sizeof *to);
    }
    if (!lstm) { /* recurrent side first, then the input side into the same place */
        dlsi_rnn_dw(call, before, r.hidden, grads, r.gates, rows, 1, work);
        if (call->dw[3] != NULL) {
            dls_real *all =
                work + 16 * (size_t)r.gates; /* sums of all three gates; n's is wanted */
            dlsi_col_sum(call->cx, grads, (size_t)rows, r.gates, work, all, false);
            dlsi_put(call->cx, all + 2 * r.hidden, call->dw[3], (size_t)r.hidden, call->dw_add);
            dlsi_ready(call, 3, (size_t)r.hidden);
        }
    }
    for (i = 0; i < call->n; i++)
        memcpy(grads + (ptrdiff_t)i * r.t * r.gates, r.saved + (size_t)i * r.saved_sample,
               (size_t)r.t * (size_t)r.gates * sizeof *grads);
    if (lstm) dlsi_rnn_dw(call, before, r.hidden, grads, r.gates, rows, 1, work);
    dlsi_rnn_dw(call, (const dls_real *)call->x[0], c, grads, r.gates, rows, 0, work);
    if (call->dw[2] != NULL) {
        dlsi_col_sum(call->cx, grads, (size_t)rows, r.gates, work, call->dw[2], call->dw_add);
        dlsi_ready(call, 2, (size_t)r.gates);
    }
    if (call->dx[0] != NULL) {
        dlsi_gemm g;
        DLSI_ZERO(g);
        (void)dlsi_act_clamp(DLS_ACT_NONE, &g.lo, &g.hi);
        g.a = grads;
        g.a_row = g.k = r.gates;
        g.a_k = 1;
        g.b = call->w[0];
        g.b_k = 1;
        g.b_col = r.gates;
        g.c = call->dx[0];
        g.ldc = g.n = c;
        g.m = rows;
        g.res = (call->dx_add & 1u) != 0 ? g.c : NULL;
        dlsi_gemm_run(call->cx, &g, work, NULL, NULL);
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_lstm_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_rnn_shape(site, spec, true);
}
DLSI_FN dls_status dlsi_gru_shape(const dls_op_site *site, dls_op_spec *spec) {
    return dlsi_rnn_shape(site, spec, false);
}
DLSI_FN dls_status dlsi_lstm_forward(const dls_op_call *call) {
    return dlsi_rnn_forward(call, true);
}
DLSI_FN dls_status dlsi_lstm_backward(const dls_op_call *call) {
    return dlsi_rnn_backward(call, true);
}
DLSI_FN dls_status dlsi_gru_forward(const dls_op_call *call) {
    return dlsi_rnn_forward(call, false);
}
DLSI_FN dls_status dlsi_gru_backward(const dls_op_call *call) {
    return dlsi_rnn_backward(call, false);
}
DLS_API const dls_op *dls_op_lstm(void) {
    static const dls_op row = {"lstm",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_lstm_shape,
                               dlsi_lstm_forward,
                               DLSI_BACKWARD(dlsi_lstm_backward),
                               NULL,
                               NULL};
    return &row;
}
DLS_API const dls_op *dls_op_gru(void) {
    static const dls_op row = {"gru",
                               1,
                               1,
                               DLS_MERGE_NONE,
                               dlsi_gru_shape,
                               dlsi_gru_forward,
                               DLSI_BACKWARD(dlsi_gru_backward),
                               NULL,
                               NULL};
    return &row;
}

DLS_API const dls_op *dls_op_find(const char *name) {
    const dls_op *const all[] = {
        dls_op_input(),     dls_op_param(),       dls_op_conv2d(),    dls_op_conv_transpose(),
        dls_op_linear(),    dls_op_tied_linear(), dls_op_matmul(),    dls_op_maxpool(),
        dls_op_avgpool(),   dls_op_batchnorm(),   dls_op_groupnorm(), dls_op_layernorm(),
        dls_op_rmsnorm(),   dls_op_act(),         dls_op_softmax(),   dls_op_add(),
        dls_op_mul(),       dls_op_concat(),      dls_op_slice(),     dls_op_pad(),
        dls_op_reshape(),   dls_op_transpose(),   dls_op_upsample(),  dls_op_dropout(),
        dls_op_embedding(), dls_op_rope(),        dls_op_attention(), dls_op_lstm(),
        dls_op_gru()};
    size_t i;
    for (i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

/* ------------------------------------------------------------------------------------------------
   >>net.impl                        deps: config base port tensor kern par op net.api
   A network is an array of nodes in the order they were built, which is an order they can run in.
   An executor plans a range of them: which values need memory when, which nodes merge, where each
   value lies. Planning is the same code for dls_exec_size and dls_exec_init. */

#define DLSI_NONE UINT32_MAX
#define DLSI_WITH_WEIGHTS (UINT32_MAX - 1) /* a gradient that lies among those of the weights */
#define DLSI_NODE_FIXED 1u                 /* its value is the same for every sample */
#define DLSI_NODE_INPUT 2u                 /* its value comes from outside */

typedef struct dlsi_node {
    const dls_op *op;
    dls_attr attr;
    dls_shape y;
    size_t param;                        /* first element of its parameters */
    uint32_t param_count[DLS_OP_PARAMS]; /* elements of each; in memory each is padded to 16 */
    int16_t in[DLS_OP_INPUTS];
    uint8_t inputs, params, dtype, flags;
    uint32_t tied; /* inputs named for their parameters only */
} dlsi_node;

/* What a plan knows of a node. Offsets in units of DLS_ALIGN. */
typedef struct dlsi_slot {
    uint32_t val, grad, saved, packed;
    int16_t target;   /* value that its forward call writes: itself, or the end of a merged chain */
    int16_t residual; /* value added by the call, or -1 */
    int16_t fold;     /* normalisation folded into its weights, or -1 */
    int8_t act;       /* activation of the chain, -1: the op's own */
    uint8_t flags;
    uint8_t dx_add;  /* inputs whose gradient somebody wrote before */
    uint8_t dx_zero; /* inputs to clear first: one value is two inputs */
} dlsi_slot;
enum {
    DLSI_SLOT_LIVE = 1,   /* the outputs need it */
    DLSI_SLOT_MERGED = 2, /* computed by another node's call */
    DLSI_SLOT_ALIAS = 4,  /* its value is its input's memory */
    DLSI_SLOT_GRAD = 8,   /* gradients pass through it */
    DLSI_SLOT_IMPORT = 16,
    DLSI_SLOT_KEPT = 32, /* its value stays to the end */
    DLSI_SLOT_TIED = 64  /* a later node has written the gradient of the same parameters */
};

/* Memory wanted from step first to step last. */
typedef struct dlsi_store {
    size_t bytes, offset;
    int32_t first, last;
} dlsi_store;
#define DLSI_STORES 3 /* per node: value, gradient, saved */
#define DLSI_FOREVER 0x3FFFFFFF

struct dls_net {
    dlsi_node *node;
    dlsi_slot *slot; /* scratch of planning, as are the next two */
    dlsi_store *store;
    int16_t *order;
    int32_t nodes, nodes_max;
    dls_val output; /* -1: the last node */
    uint64_t seed;
    dls_error error;      /* of the builders: sticky */
    dls_error plan_error; /* of the last plan */
    dls_real *params;
    size_t param_count;
    uint32_t version; /* of the weights' values */
    bool heap;        /* allocates its weights */
    void *heap_params;
    const char *meta; /* text saved with it */
    char *heap_meta;
};

struct dls_exec {
    dls_net *net;
    dls_cx cx;
    dlsi_slot *slot;
    unsigned char *values, *packed, *scratch;
    void *work;
    size_t scratch_stride;
    dls_real *grads; /* of parameters [param_first, ...) */
    size_t param_first, grad_count;
    int32_t first, last, batch, n;
    dls_val output;
    bool train;
    uint32_t packed_version; /* weights' version that is packed */
    bool is_packed;
    uint64_t seed; /* of the present step, for backward too */
    int64_t sample, total;
    bool training_call;
    dls_ready_fn ready;
    void *ready_user;
    dls_exec_memory memory;
    dls_error error; /* of the last call */
};

/* ---- Networks ---- */

DLSI_FN int32_t dlsi_net_max(const dls_net_desc *desc) {
    return desc == NULL || desc->nodes_max == 0 ? DLS_NODES_DEFAULT : desc->nodes_max;
}
/* Places a network's tables; net NULL measures. */
DLSI_FN dls_net *dlsi_net_layout(dlsi_layout *l, int32_t max) {
    const size_t n = (size_t)max;
    dls_net *net = (dls_net *)dlsi_layout_take(l, sizeof(dls_net));
    dlsi_node *node = (dlsi_node *)dlsi_layout_take(l, n * sizeof *node);
    dlsi_slot *slot = (dlsi_slot *)dlsi_layout_take(l, n * sizeof *slot);
    dlsi_store *store = (dlsi_store *)dlsi_layout_take(l, n * DLSI_STORES * sizeof *store);
    int16_t *order = (int16_t *)dlsi_layout_take(l, n * DLSI_STORES * 2 * sizeof *order);
    if (net == NULL) return NULL;
    memset(net, 0, sizeof *net);
    net->node = node;
    net->slot = slot;
    net->store = store;
    net->order = order;
    return net;
}
DLS_API size_t dls_net_size(const dls_net_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    const int32_t max = dlsi_net_max(desc);
    if (max < 1 || max > 32767 / DLSI_STORES) return 0;
    (void)dlsi_net_layout(&l, max);
    return dlsi_layout_total(&l);
}
DLS_API dls_status dls_net_init_abi(dls_net **net, const dls_net_desc *desc, void *mem,
                                    size_t bytes, uint32_t abi) {
    dlsi_layout l = dlsi_layout_at(mem);
    const size_t size = dls_net_size(desc);
    *net = NULL;
    if (abi != DLS_ABI) return DLS_E_ABI;
    if (size == 0) return DLS_E_ARG;
    if (mem == NULL || bytes < size) return DLS_E_MEMORY;
    *net = dlsi_net_layout(&l, dlsi_net_max(desc));
    (*net)->nodes_max = dlsi_net_max(desc);
    (*net)->output = DLS_VAL_NONE;
    (*net)->seed = desc != NULL ? desc->seed : 0;
    dlsi_error_clear(&(*net)->error);
    dlsi_error_clear(&(*net)->plan_error);
    return DLS_OK;
}
#if DLS_ENABLE_HEAP
DLS_API dls_net *dls_net_create_abi(const dls_net_desc *desc, uint32_t abi) {
    const size_t bytes = dls_net_size(desc);
    void *mem = dlsi_heap_take(bytes);
    dls_net *net = NULL;
    if (mem == NULL) return NULL;
    if (dls_net_init_abi(&net, desc, mem, bytes, abi) != DLS_OK) {
        dlsi_heap_give(mem);
        return NULL;
    }
    net->heap = true;
    return net;
}
DLS_API void dls_net_destroy(dls_net *net) {
    if (net == NULL) return;
    dlsi_heap_give(net->heap_params);
    if (net->heap_meta != NULL) DLS_FREE(net->heap_meta);
    dlsi_heap_give(net);
}
#endif
DLS_API dls_status dls_net_status(const dls_net *net) { return net->error.status; }
DLS_API const dls_error *dls_net_error(const dls_net *net) {
    return net->error.status != DLS_OK ? &net->error : &net->plan_error;
}

/* The site of a node as its shape rule sees it. */
DLSI_FN void dlsi_net_site(const dls_net *net, const dlsi_node *node, const dls_cx *cx,
                           int32_t batch, bool train, dls_error *error, dls_op_site *site) {
    int32_t i;
    memset(site, 0, sizeof *site);
    site->attr = &node->attr;
    site->cx = cx;
    site->inputs = node->inputs;
    site->batch = batch;
    site->train = train;
    site->error = error;
    for (i = 0; i < node->inputs; i++) {
        const dlsi_node *from = &net->node[node->in[i]];
        site->x[i] = from->y;
        site->dtype[i] = (dls_dtype)from->dtype;
        if ((from->flags & DLSI_NODE_FIXED) != 0) site->fixed |= (uint32_t)1 << i;
    }
}
/* Whether the inputs named for their parameters have the right ones. */
DLSI_FN dls_status dlsi_net_check_tied(const dls_net *net, const dlsi_node *node,
                                       const dls_op_spec *spec, const dls_op_site *site) {
    int32_t i;
    for (i = 0; i < node->inputs; i++) {
        const dlsi_node *from = &net->node[node->in[i]];
        if ((spec->tied >> i & 1u) == 0) continue;
        if (from->params < 1 || from->param_count[0] != spec->tied_count)
            return dls_op_fail(site, DLS_E_SHAPE,
                               DLSI_MSG("input {0} has no table of the right size to tie to"), i, 0,
                               0);
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_net_check_inputs(dls_net *net, const dls_op *op, const dls_val *inputs,
                                         int32_t count) {
    int32_t i;
    if (net->nodes == net->nodes_max)
        return dlsi_fail(&net->error, DLS_E_LIMIT,
                         DLSI_MSG("the network is full: raise nodes_max above {0}"), NULL,
                         net->nodes_max, 0, 0);
    if (op == NULL || count < op->inputs_min || count > op->inputs_max || count > DLS_OP_INPUTS)
        return dlsi_fail(&net->error, DLS_E_ARG, DLSI_MSG("op '{s}' does not take {0} inputs"),
                         op != NULL ? op->name : "NULL", count, 0, 0);
    for (i = 0; i < count; i++)
        if (inputs[i] < 0 || inputs[i] >= net->nodes)
            return dlsi_fail(&net->error, DLS_E_ARG,
                             DLSI_MSG("input {0} of '{s}' is no value of this network ({1})"),
                             op->name, i, inputs[i], 0);
    return DLS_OK;
}
DLS_API dls_val dls_net_op(dls_net *net, const dls_op *op, const dls_val *inputs, int32_t count,
                           const dls_attr *attr) {
    dlsi_node *node = &net->node[net->nodes];
    dls_op_site site;
    dls_op_spec spec;
    size_t params = net->param_count;
    int32_t i;
    if (net->error.status != DLS_OK || dlsi_net_check_inputs(net, op, inputs, count) != DLS_OK)
        return DLS_VAL_NONE;
    memset(node, 0, sizeof *node);
    node->op = op;
    node->inputs = (uint8_t)count;
    if (attr != NULL) node->attr = *attr;
    for (i = 0; i < count; i++) node->in[i] = (int16_t)inputs[i];
    dlsi_net_site(net, node, NULL, 1, false, &net->error, &site);
    DLSI_ZERO(spec);
    if (op->shape(&site, &spec) != DLS_OK ||
        dlsi_net_check_tied(net, node, &spec, &site) != DLS_OK) {
        (void)dlsi_fail(&net->error, DLS_E_SHAPE, DLSI_MSG("the op's shape rule refused"), NULL, 0,
                        0, 0);
        net->error.node = net->nodes;
        net->error.name = op->name;
        return DLS_VAL_NONE;
    }
    node->y = spec.y;
    node->dtype = (uint8_t)spec.dtype;
    node->flags = spec.fixed ? DLSI_NODE_FIXED : op->forward == NULL ? DLSI_NODE_INPUT : 0;
    node->tied = spec.tied;
    node->params = (uint8_t)spec.params;
    node->param = params;
    for (i = 0; i < spec.params; i++) {
        node->param_count[i] = (uint32_t)dlsi_param_count(&spec.param[i]);
        params = dlsi_add(params, dlsi_round_up(node->param_count[i], 16));
    }
    if (params > SIZE_MAX / 32 || net->params != NULL) {
        (void)dlsi_fail(&net->error, net->params != NULL ? DLS_E_STATE : DLS_E_LIMIT,
                        net->params != NULL
                            ? DLSI_MSG("a network cannot grow after its weights are bound")
                            : DLSI_MSG("too many weights"),
                        NULL, 0, 0, 0);
        return DLS_VAL_NONE;
    }
    net->param_count = params;
    return net->nodes++;
}

/* ---- Builders: defaults made explicit, then one or two nodes ---- */

DLSI_FN dls_val dlsi_net_one(dls_net *net, const dls_op *op, dls_val x, const dls_attr *attr) {
    return dls_net_op(net, op, &x, 1, attr);
}
/* Shape of a value while building; ones after an error, so that arithmetic on it is harmless. */
DLSI_FN dls_shape dlsi_net_x(const dls_net *net, dls_val x) {
    return x >= 0 && x < net->nodes ? net->node[x].y : dlsi_shape(1, 1, 1);
}
/* Whether an activation can ride on the op before it; the others become nodes of their own. */
DLSI_FN bool dlsi_act_fusable(dls_act act) {
    dls_real lo, hi;
    return dlsi_act_clamp(act, &lo, &hi);
}
DLSI_FN dls_val dlsi_net_act(dls_net *net, dls_val x, dls_act act, float slope) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[DLS_ATTR_ACT] = (int32_t)act;
    a.f[0] = slope;
    return dlsi_net_one(net, dls_op_act(), x, &a);
}
DLSI_FN dls_val dlsi_net_act_after(dls_net *net, dls_val x, dls_act act, float slope) {
    return dlsi_act_fusable(act) ? x : dlsi_net_act(net, x, act, slope);
}
DLSI_FN int32_t dlsi_fused(dls_act act) { return dlsi_act_fusable(act) ? (int32_t)act : 0; }

DLS_API dls_val dls_net_input(dls_net *net, int32_t h, int32_t w, int32_t c) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = h;
    a.i[1] = w;
    a.i[2] = c;
    return dls_net_op(net, dls_op_input(), NULL, 0, &a);
}
DLS_API dls_val dls_net_input_ids(dls_net *net, int32_t t) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = t;
    a.i[1] = a.i[2] = 1;
    a.i[3] = (int32_t)DLS_I32;
    return dls_net_op(net, dls_op_input(), NULL, 0, &a);
}
DLS_API dls_val dls_net_param(dls_net *net, int32_t h, int32_t w, int32_t c, float deviation) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = h;
    a.i[1] = w;
    a.i[2] = c;
    a.f[0] = deviation;
    return dls_net_op(net, dls_op_param(), NULL, 0, &a);
}

/* Padding before and after an axis. */
DLSI_FN void dlsi_same_padding(int32_t size, int64_t kernel, int32_t stride, int32_t *before,
                               int32_t *after) {
    int64_t total = ((int64_t)dlsi_ceil_div(size, stride) - 1) * stride + kernel - size;
    if (total < 0) total = 0;
    if (total > 65535) total = 65535;
    *before = (int32_t)(total / 2);
    *after = (int32_t)(total - total / 2);
}
/* A pair that an attribute can hold, or one that every shape rule refuses. */
DLSI_FN int32_t dlsi_pair_or_bad(int32_t a, int32_t b) {
    return a >= 0 && a <= 65535 && b >= 0 && b <= 32767 ? dlsi_pair(a, b) : 0;
}
DLSI_FN bool dlsi_pair_is_good(int32_t a, int32_t b) {
    return a > 0 && a <= 65535 && b > 0 && b <= 32767;
}
DLSI_FN bool dlsi_pads_are_good(int32_t top, int32_t left, int32_t bottom, int32_t right) {
    return top >= 0 && top <= 65535 && left >= 0 && left <= 32767 && bottom >= 0 &&
           bottom <= 65535 && right >= 0 && right <= 32767;
}
DLSI_FN void dlsi_conv_attr(const dls_conv_desc *d, dls_shape x, bool transposed, dls_attr *a) {
    const int32_t kh = dlsi_or(d->kernel_h, 3), kw = dlsi_or(d->kernel_w, kh);
    const int32_t sh = dlsi_or(d->stride_h, 1), sw = dlsi_or(d->stride_w, sh);
    const int32_t dh = dlsi_or(d->dilation_h, 1), dw = dlsi_or(d->dilation_w, dh);
    int32_t pt = 0, pl = 0, pb = 0, pr = 0, oph = d->output_pad_h, opw = d->output_pad_w;
    memset(a, 0, sizeof *a);
    a->i[DLSI_CONV_C] = d->channels;
    a->i[DLSI_CONV_K] = dlsi_pair_or_bad(kh, kw);
    a->i[DLSI_CONV_S] = dlsi_pair_or_bad(sh, sw);
    a->i[DLSI_CONV_D] = dlsi_pair_or_bad(dh, dw);
    a->i[DLSI_CONV_G] = dlsi_or(d->groups, 1);
    if (d->pad == DLS_PAD_EXPLICIT) {
        pt = d->pad_top;
        pl = d->pad_left;
        pb = d->pad_bottom;
        pr = d->pad_right;
    } else if (d->pad == DLS_PAD_SAME && dlsi_pair_is_good(kh, kw) && dlsi_pair_is_good(sh, sw) &&
               dlsi_pair_is_good(dh, dw)) {
        const int64_t eh = (int64_t)(kh - 1) * dh + 1, ew = (int64_t)(kw - 1) * dw + 1;
        /* transposed: as the plain convolution from the output, x stride, would be padded */
        dlsi_same_padding(transposed && dlsi_fits(x.h, sh) ? x.h * sh : x.h, eh, sh, &pt, &pb);
        dlsi_same_padding(transposed && dlsi_fits(x.w, sw) ? x.w * sw : x.w, ew, sw, &pl, &pr);
        if (transposed && eh < sh) oph = (int32_t)(sh - eh);
        if (transposed && ew < sw) opw = (int32_t)(sw - ew);
    }
    if (!dlsi_pads_are_good(pt, pl, pb, pr) || oph < 0 || oph > 255 || opw < 0 || opw > 127)
        a->i[DLSI_CONV_K] = oph = opw = 0; /* refused by the shape rule */
    a->i[DLSI_CONV_F] = dlsi_fused(d->act) | (d->no_bias ? 256 : 0) | oph << 16 | opw << 24;
    a->i[DLSI_CONV_P0] = dlsi_pair(pt, pl);
    a->i[DLSI_CONV_P1] = dlsi_pair(pb, pr);
}
DLS_API dls_val dls_net_conv2d_desc(dls_net *net, dls_val x, const dls_conv_desc *desc) {
    dls_attr a;
    dls_conv_desc d;
    DLSI_ZERO(d);
    if (desc != NULL) d = *desc;
    dlsi_conv_attr(&d, dlsi_net_x(net, x), false, &a);
    return dlsi_net_act_after(net, dlsi_net_one(net, dls_op_conv2d(), x, &a), d.act,
                              d.slope > 0 ? d.slope : 0.01f);
}
DLS_API dls_val dls_net_conv2d(dls_net *net, dls_val x, int32_t channels, int32_t kernel,
                               dls_act act) {
    dls_conv_desc d;
    DLSI_ZERO(d);
    d.channels = channels;
    d.kernel_h = kernel > 0 ? kernel : -1;
    d.act = act;
    return dls_net_conv2d_desc(net, x, &d);
}
DLS_API dls_val dls_net_depthwise(dls_net *net, dls_val x, int32_t kernel, int32_t stride,
                                  dls_act act) {
    dls_conv_desc d;
    DLSI_ZERO(d);
    d.channels = d.groups = dlsi_net_x(net, x).c;
    d.kernel_h = kernel > 0 ? kernel : -1;
    d.stride_h = stride > 0 ? stride : -1;
    d.act = act;
    return dls_net_conv2d_desc(net, x, &d);
}
DLS_API dls_val dls_net_conv_transpose(dls_net *net, dls_val x, const dls_conv_desc *desc) {
    dls_attr a;
    dls_conv_desc d;
    DLSI_ZERO(d);
    if (desc != NULL) d = *desc;
    dlsi_conv_attr(&d, dlsi_net_x(net, x), true, &a);
    return dlsi_net_act_after(net, dlsi_net_one(net, dls_op_conv_transpose(), x, &a), d.act,
                              d.slope > 0 ? d.slope : 0.01f);
}
DLSI_FN dls_val dlsi_net_linear(dls_net *net, dls_val x, int32_t units, dls_act act, bool no_bias) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = units;
    a.i[1] = no_bias;
    a.i[DLS_ATTR_ACT] = dlsi_fused(act);
    return dlsi_net_act_after(net, dlsi_net_one(net, dls_op_linear(), x, &a), act, 0.01f);
}
DLS_API dls_val dls_net_linear(dls_net *net, dls_val x, int32_t units, dls_act act) {
    return dlsi_net_linear(net, x, units, act, false);
}
DLS_API dls_val dls_net_linear_no_bias(dls_net *net, dls_val x, int32_t units, dls_act act) {
    return dlsi_net_linear(net, x, units, act, true);
}
DLS_API dls_val dls_net_dense(dls_net *net, dls_val x, int32_t units, dls_act act) {
    const dls_shape s = dlsi_net_x(net, x);
    if (s.h != 1 || s.w != 1) x = dls_net_reshape(net, x, 1, 1, s.h * s.w * s.c);
    return dlsi_net_linear(net, x, units, act, false);
}
DLS_API dls_val dls_net_tied_linear(dls_net *net, dls_val x, dls_val embedding) {
    dls_val in[2];
    dls_attr a;
    DLSI_ZERO(a);
    in[0] = x;
    in[1] = embedding;
    if (embedding >= 0 && embedding < net->nodes) a.i[0] = net->node[embedding].attr.i[0];
    return dls_net_op(net, dls_op_tied_linear(), in, 2, &a);
}
DLSI_FN dls_val dlsi_net_two(dls_net *net, const dls_op *op, dls_val a, dls_val b, int32_t i0,
                             int32_t act) {
    dls_val in[2];
    dls_attr attr;
    DLSI_ZERO(attr);
    in[0] = a;
    in[1] = b;
    attr.i[0] = i0;
    attr.i[DLS_ATTR_ACT] = act;
    return dls_net_op(net, op, in, 2, &attr);
}
DLS_API dls_val dls_net_matmul(dls_net *net, dls_val a, dls_val b, bool b_transposed) {
    return dlsi_net_two(net, dls_op_matmul(), a, b, b_transposed, 0);
}
DLSI_FN dls_val dlsi_net_pool(dls_net *net, const dls_op *op, dls_val x, const dls_pool2d_desc *d,
                              bool whole) {
    const dls_shape s = dlsi_net_x(net, x);
    int32_t kh, kw, sh, sw, pt = 0, pl = 0, pb = 0, pr = 0;
    dls_pool2d_desc zero;
    dls_attr a;
    DLSI_ZERO(a);
    DLSI_ZERO(zero);
    if (d == NULL) d = &zero;
    kh = dlsi_or(d->kernel_h, 2);
    kw = dlsi_or(d->kernel_w, kh);
    sh = dlsi_or(d->stride_h, kh);
    sw = dlsi_or(d->stride_w, d->stride_h != 0 ? sh : kw);
    if (d->pad == DLS_PAD_EXPLICIT) {
        pt = d->pad_top;
        pl = d->pad_left;
        pb = d->pad_bottom;
        pr = d->pad_right;
    } else if (d->same && dlsi_pair_is_good(kh, kw) && dlsi_pair_is_good(sh, sw)) {
        dlsi_same_padding(s.h, kh, sh, &pt, &pb);
        dlsi_same_padding(s.w, kw, sw, &pl, &pr);
    }
    a.i[0] = dlsi_pads_are_good(pt, pl, pb, pr) ? dlsi_pair_or_bad(kh, kw) : 0;
    a.i[1] = dlsi_pair_or_bad(sh, sw);
    a.i[2] = dlsi_pair(pt, pl);
    a.i[3] = dlsi_pair(pb, pr);
    a.i[4] = d->count_padding;
    a.i[5] = whole;
    return dlsi_net_one(net, op, x, &a);
}
DLS_API dls_val dls_net_maxpool_desc(dls_net *net, dls_val x, const dls_pool2d_desc *desc) {
    return dlsi_net_pool(net, dls_op_maxpool(), x, desc, false);
}
DLS_API dls_val dls_net_avgpool_desc(dls_net *net, dls_val x, const dls_pool2d_desc *desc) {
    return dlsi_net_pool(net, dls_op_avgpool(), x, desc, false);
}
DLS_API dls_val dls_net_maxpool(dls_net *net, dls_val x, int32_t kernel) {
    dls_pool2d_desc d;
    DLSI_ZERO(d);
    d.kernel_h = kernel > 0 ? kernel : -1;
    return dls_net_maxpool_desc(net, x, &d);
}
DLS_API dls_val dls_net_avgpool(dls_net *net, dls_val x, int32_t kernel) {
    dls_pool2d_desc d;
    DLSI_ZERO(d);
    d.kernel_h = kernel > 0 ? kernel : -1;
    return dls_net_avgpool_desc(net, x, &d);
}
DLS_API dls_val dls_net_global_avgpool(dls_net *net, dls_val x) {
    dls_pool2d_desc d;
    DLSI_ZERO(d);
    return dlsi_net_pool(net, dls_op_avgpool(), x, &d, true);
}
DLS_API dls_val dls_net_batchnorm(dls_net *net, dls_val x, dls_act act) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[DLS_ATTR_ACT] = dlsi_fused(act);
    a.f[0] = 1e-5f;
    a.f[1] = 0.1f;
    return dlsi_net_act_after(net, dlsi_net_one(net, dls_op_batchnorm(), x, &a), act, 0.01f);
}
DLS_API dls_val dls_net_groupnorm(dls_net *net, dls_val x, int32_t groups, dls_act act) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = groups;
    a.i[DLS_ATTR_ACT] = dlsi_fused(act);
    a.f[0] = 1e-5f;
    return dlsi_net_act_after(net, dlsi_net_one(net, dls_op_groupnorm(), x, &a), act, 0.01f);
}
DLSI_FN dls_val dlsi_net_real(dls_net *net, const dls_op *op, dls_val x, int32_t i0, float f0) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = i0;
    a.f[0] = f0;
    return dlsi_net_one(net, op, x, &a);
}
DLS_API dls_val dls_net_layernorm(dls_net *net, dls_val x) {
    return dlsi_net_real(net, dls_op_layernorm(), x, 0, 1e-5f);
}
DLS_API dls_val dls_net_rmsnorm(dls_net *net, dls_val x) {
    return dlsi_net_real(net, dls_op_rmsnorm(), x, 0, 1e-6f);
}
DLS_API dls_val dls_net_act(dls_net *net, dls_val x, dls_act act) {
    return dlsi_net_act(net, x, act, act == DLS_ACT_LEAKY ? 0.01f : 0.0f);
}
DLS_API dls_val dls_net_leaky(dls_net *net, dls_val x, float slope) {
    return dlsi_net_act(net, x, DLS_ACT_LEAKY, slope);
}
DLS_API dls_val dls_net_softmax(dls_net *net, dls_val x) {
    return dlsi_net_one(net, dls_op_softmax(), x, NULL);
}

/* The operand that is spread goes second. */
DLSI_FN bool dlsi_net_swap(const dls_net *net, dls_val a, dls_val b) {
    if (a < 0 || b < 0 || a >= net->nodes || b >= net->nodes) return false;
    if ((net->node[a].flags & DLSI_NODE_FIXED) != 0) return true;
    return (net->node[b].flags & DLSI_NODE_FIXED) == 0 &&
           dlsi_count(net->node[a].y) < dlsi_count(net->node[b].y);
}
DLS_API dls_val dls_net_add(dls_net *net, dls_val a, dls_val b, dls_act act) {
    const bool swap = dlsi_net_swap(net, a, b);
    const dls_val y =
        dlsi_net_two(net, dls_op_add(), swap ? b : a, swap ? a : b, 0, dlsi_fused(act));
    return dlsi_net_act_after(net, y, act, 0.01f);
}
DLS_API dls_val dls_net_mul(dls_net *net, dls_val a, dls_val b) {
    const bool swap = dlsi_net_swap(net, a, b);
    return dlsi_net_two(net, dls_op_mul(), swap ? b : a, swap ? a : b, 0, 0);
}
DLS_API dls_val dls_net_concat(dls_net *net, const dls_val *x, int32_t count, int32_t axis) {
    dls_val in[DLS_OP_INPUTS];
    dls_attr a;
    int32_t i, n = 0;
    DLSI_ZERO(a);
    a.i[0] = axis;
    if (count < 1 || count > 64) {
        (void)dlsi_fail(&net->error, DLS_E_ARG, DLSI_MSG("concat joins 1 to 64 values, not {0}"),
                        NULL, count, 0, 0);
        return DLS_VAL_NONE;
    }
    for (i = 0; i < count; i++) { /* four at a time: what is joined so far, and three more */
        in[n++] = x[i];
        if (n < DLS_OP_INPUTS && i < count - 1) continue;
        in[0] = dls_net_op(net, dls_op_concat(), in, n, &a);
        n = 1;
    }
    return in[0];
}
DLS_API dls_val dls_net_slice(dls_net *net, dls_val x, int32_t axis, int32_t first, int32_t count) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = axis;
    a.i[1] = first;
    a.i[2] = count;
    return dlsi_net_one(net, dls_op_slice(), x, &a);
}
DLS_API dls_val dls_net_split(dls_net *net, dls_val x, int32_t axis, int32_t parts, dls_val *out) {
    const int32_t size = axis >= 0 && axis <= 2 ? dlsi_axis(dlsi_net_x(net, x), axis) : 0;
    int32_t i;
    if (parts < 1 || size % parts != 0) {
        (void)dlsi_fail(&net->error, DLS_E_SHAPE,
                        DLSI_MSG("an axis of {0} does not split in {1} equal parts"), NULL, size,
                        parts, 0);
        return DLS_VAL_NONE;
    }
    for (i = 0; i < parts; i++)
        out[i] = dls_net_slice(net, x, axis, i * (size / parts), size / parts);
    return out[0];
}
DLS_API dls_val dls_net_pad(dls_net *net, dls_val x, int32_t top, int32_t left, int32_t bottom,
                            int32_t right, float value) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = top;
    a.i[1] = left;
    a.i[2] = bottom;
    a.i[3] = right;
    a.f[0] = value;
    return dlsi_net_one(net, dls_op_pad(), x, &a);
}
DLSI_FN dls_val dlsi_net_three(dls_net *net, const dls_op *op, dls_val x, int32_t a, int32_t b,
                               int32_t c) {
    dls_attr attr;
    DLSI_ZERO(attr);
    attr.i[0] = a;
    attr.i[1] = b;
    attr.i[2] = c;
    return dlsi_net_one(net, op, x, &attr);
}
DLS_API dls_val dls_net_reshape(dls_net *net, dls_val x, int32_t h, int32_t w, int32_t c) {
    return dlsi_net_three(net, dls_op_reshape(), x, h, w, c);
}
DLS_API dls_val dls_net_transpose(dls_net *net, dls_val x, int32_t axis0, int32_t axis1,
                                  int32_t axis2) {
    return dlsi_net_three(net, dls_op_transpose(), x, axis0, axis1, axis2);
}
DLS_API dls_val dls_net_upsample(dls_net *net, dls_val x, int32_t factor, bool bilinear) {
    return dlsi_net_three(net, dls_op_upsample(), x, factor, bilinear, 0);
}
DLS_API dls_val dls_net_dropout(dls_net *net, dls_val x, float p) {
    return dlsi_net_real(net, dls_op_dropout(), x, 0, p);
}
DLS_API dls_val dls_net_embedding(dls_net *net, dls_val ids, int32_t vocabulary, int32_t dim) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = vocabulary;
    a.i[1] = dim;
    a.f[0] = 0.02f;
    return dlsi_net_one(net, dls_op_embedding(), ids, &a);
}
DLS_API dls_val dls_net_position(dls_net *net, dls_val x) {
    const dls_shape s = dlsi_net_x(net, x);
    return dls_net_add(net, x, dls_net_param(net, s.h, s.w, s.c, 0.0f), DLS_ACT_NONE);
}
DLS_API dls_val dls_net_rope(dls_net *net, dls_val x, int32_t heads, float base) {
    return dlsi_net_real(net, dls_op_rope(), x, heads, base > 0 ? base : 10000.0f);
}
DLSI_FN dls_val dlsi_net_attention(dls_net *net, const dls_val *in, int32_t n,
                                   const dls_attention_desc *d) {
    dls_attr a;
    DLSI_ZERO(a);
    a.i[0] = d != NULL ? dlsi_or(d->heads, 1) : 1;
    a.i[1] = d != NULL ? dlsi_or(d->kv_heads, a.i[0]) : 1;
    a.i[2] = d != NULL && d->causal;
    return dls_net_op(net, dls_op_attention(), in, n, &a);
}
DLS_API dls_val dls_net_attention(dls_net *net, dls_val q, dls_val k, dls_val v,
                                  const dls_attention_desc *desc) {
    dls_val in[3];
    in[0] = q;
    in[1] = k;
    in[2] = v;
    return dlsi_net_attention(net, in, 3, desc);
}
DLS_API dls_val dls_net_attention_packed(dls_net *net, dls_val qkv,
                                         const dls_attention_desc *desc) {
    return dlsi_net_attention(net, &qkv, 1, desc);
}
DLS_API dls_val dls_net_lstm(dls_net *net, dls_val x, int32_t hidden) {
    return dlsi_net_three(net, dls_op_lstm(), x, hidden, 0, 0);
}
DLS_API dls_val dls_net_gru(dls_net *net, dls_val x, int32_t hidden) {
    return dlsi_net_three(net, dls_op_gru(), x, hidden, 0, 0);
}
DLS_API void dls_net_output(dls_net *net, dls_val x) {
    if (x >= 0 && x < net->nodes)
        net->output = x;
    else
        (void)dlsi_fail(&net->error, DLS_E_ARG, DLSI_MSG("output {0} is no value of this network"),
                        NULL, x, 0, 0);
}

/* ---- Looking ---- */

DLS_API int32_t dls_net_nodes(const dls_net *net) { return net->nodes; }
DLS_API dls_val dls_net_output_of(const dls_net *net) {
    return net->output >= 0 ? net->output : net->nodes - 1;
}
DLS_API dls_shape dls_net_shape(const dls_net *net, dls_val x) {
    return x >= 0 && x < net->nodes ? net->node[x].y : dlsi_shape(0, 0, 0);
}
DLS_API const dls_op *dls_net_op_of(const dls_net *net, dls_val x) {
    return x >= 0 && x < net->nodes ? net->node[x].op : NULL;
}
DLS_API int32_t dls_net_inputs_of(const dls_net *net, dls_val x, dls_val *in) {
    int32_t i;
    if (x < 0 || x >= net->nodes) return 0;
    for (i = 0; i < net->node[x].inputs; i++) in[i] = net->node[x].in[i];
    return net->node[x].inputs;
}
/* A node's spec in a plan (cx) or apart from one (NULL). It was accepted once, so it cannot fail.
   */
DLSI_FN void dlsi_net_spec(const dls_net *net, int32_t i, const dls_cx *cx, int32_t batch,
                           bool train, dls_op_spec *spec) {
    dls_op_site site;
    dls_error error;
    DLSI_ZERO(error);
    dlsi_net_site(net, &net->node[i], cx, batch, train, &error, &site);
    memset(spec, 0, sizeof *spec);
    (void)net->node[i].op->shape(&site, spec);
}
DLS_API double dls_net_macs(const dls_net *net, int32_t first, int32_t last) {
    dls_op_spec spec;
    double sum = 0.0;
    int32_t i;
    for (i = dlsi_max_i32(first, 0); i < dlsi_min_i32(last, net->nodes); i++) {
        dlsi_net_spec(net, i, NULL, 1, false, &spec);
        sum += spec.macs;
    }
    return sum;
}
DLS_API uint64_t dls_net_hash(const dls_net *net) {
    uint64_t hash = (uint64_t)net->nodes;
    size_t length;
    int32_t i, j;
    for (i = 0; i < net->nodes; i++) {
        const dlsi_node *n = &net->node[i];
        for (length = 0;
             length < 255 && n->op->name[length] != 0;) /* strlen is 220 bytes of flash */
            length++;
        hash = dls_hash64(hash, n->op->name, length);
        for (j = 0; j < DLS_ATTR_INTS; j++) hash = dlsi_hash_word(hash, (uint32_t)n->attr.i[j]);
        for (j = 0; j < DLS_ATTR_REALS; j++)
            hash = dlsi_hash_word(hash, dlsi_float_bits(n->attr.f[j]));
        for (j = 0; j < n->inputs; j++) hash = dlsi_hash_word(hash, (uint64_t)n->in[j]);
    }
    return dlsi_hash_word(hash, (uint64_t)dls_net_output_of(net));
}

/* ---- Weights ---- */

DLS_API size_t dls_net_param_count(const dls_net *net) { return net->param_count; }
DLS_API dls_real *dls_net_params(dls_net *net) { return net->params; }
DLS_API void dls_net_touch(dls_net *net) { net->version++; }
DLS_API dls_status dls_net_bind_params(dls_net *net, dls_real *mem) {
    if (net->error.status != DLS_OK) return net->error.status;
    if (mem == NULL) return DLS_E_ARG;
    net->params = mem;
    net->version++;
    return DLS_OK;
}
/* Offset of parameter p of a node, counted in elements from the start of the network's. */
DLSI_FN size_t dlsi_param_at(const dlsi_node *node, int32_t p) {
    size_t at = node->param;
    int32_t i;
    for (i = 0; i < p; i++) at += dlsi_round_up(node->param_count[i], 16);
    return at;
}
DLS_API dls_status dls_net_param_of(const dls_net *net, dls_val node, int32_t index,
                                    dls_param *param, size_t *offset, size_t *count) {
    dls_op_spec spec;
    if (node < 0 || node >= net->nodes || index < 0 || index >= net->node[node].params)
        return DLS_E_NOT_FOUND;
    dlsi_net_spec(net, node, NULL, 1, false, &spec);
    if (param != NULL) *param = spec.param[index];
    if (offset != NULL) *offset = dlsi_param_at(&net->node[node], index);
    if (count != NULL) *count = net->node[node].param_count[index];
    return DLS_OK;
}
DLSI_FN void dlsi_param_init(const dls_param *p, dls_rng *rng, dls_real *w, size_t count) {
    size_t i;
    for (i = 0; i < count; i++) {
        float v = p->init == (uint8_t)DLS_INIT_ONE ? 1.0f : 0.0f;
        if (p->init == (uint8_t)DLS_INIT_UNIFORM)
            v = (2.0f * dls_rng_uniform(rng) - 1.0f) * p->scale;
        if (p->init == (uint8_t)DLS_INIT_NORMAL) v = dls_rng_normal(rng) * p->scale;
        w[i] = (dls_real)v;
    }
}
DLSI_FN void dlsi_net_draw(dls_net *net) {
    dls_op_spec spec;
    int32_t i, p;
    memset(net->params, 0, net->param_count * sizeof(dls_real)); /* padding too */
    for (i = 0; i < net->nodes; i++) {
        dlsi_net_spec(net, i, NULL, 1, false, &spec);
        for (p = 0; p < net->node[i].params; p++) {
            dls_rng rng;
            rng.seed = dlsi_seed(net->seed, (uint64_t)i * DLS_OP_PARAMS + (uint64_t)p);
            rng.next = 0;
            dlsi_param_init(&spec.param[p], &rng, net->params + dlsi_param_at(&net->node[i], p),
                            net->node[i].param_count[p]);
        }
    }
    net->version++;
}
#if DLS_ENABLE_HEAP
/* Weights of a heap network, allocated (and drawn) on first use. */
DLSI_FN dls_status dlsi_net_need_params(dls_net *net, bool draw) {
    if (net->error.status != DLS_OK) return net->error.status;
    if (net->params != NULL) return DLS_OK;
    if (!net->heap) return DLS_E_STATE;
    net->heap_params = dlsi_heap_take(dlsi_reals(dlsi_max_size(net->param_count, 16)));
    if (net->heap_params == NULL) {
        dlsi_error_clear(&net->plan_error);
        return dlsi_fail(&net->plan_error, DLS_E_MEMORY, DLSI_MSG("no memory for {0} weights"),
                         NULL, (int32_t)dlsi_min_size(net->param_count, 0x7FFFFFFF), 0, 0);
    }
    net->params = (dls_real *)net->heap_params;
    if (draw) dlsi_net_draw(net);
    return DLS_OK;
}
#else
DLSI_FN dls_status dlsi_net_need_params(dls_net *net, bool draw) {
    (void)draw;
    if (net->error.status != DLS_OK) return net->error.status;
    return net->params != NULL ? DLS_OK : DLS_E_STATE;
}
#endif
DLS_API dls_status dls_net_init_params(dls_net *net) {
    dls_status st = dlsi_net_need_params(net, false);
    if (st == DLS_OK) dlsi_net_draw(net);
    return st;
}

/* ---- Planning ---- */

typedef struct dlsi_plan {
    dls_net *net;
    dls_cx cx;
    int32_t first, last, batch, steps;
    bool train, input_grad, fuse;
    dls_val output;
    int32_t stores;
    size_t values, saved, packed, work, work_thread, live_peak;
} dlsi_plan;

DLSI_FN bool dlsi_slot_is(const dlsi_slot *s, unsigned flag) { return (s->flags & flag) != 0; }
DLSI_FN bool dlsi_in_range(const dlsi_plan *p, int32_t i) { return i >= p->first && i < p->last; }
/* When a node runs forward, and backward. */
DLSI_FN int32_t dlsi_time(const dlsi_plan *p, int32_t i) { return i - p->first + 1; }
DLSI_FN int32_t dlsi_time_back(const dlsi_plan *p, int32_t i) {
    return 2 * (p->steps + 1) - dlsi_time(p, i);
}

/* The one live node in range that reads value i, or -1 when there are several, none, or others. */
DLSI_FN int32_t dlsi_plan_consumer(const dlsi_plan *p, int32_t i) {
    int32_t j, k, found = -1;
    if (i == p->output || dlsi_slot_is(&p->net->slot[i], DLSI_SLOT_KEPT)) return -1;
    for (j = i + 1; j < p->last; j++) {
        if (!dlsi_slot_is(&p->net->slot[j], DLSI_SLOT_LIVE)) continue;
        for (k = 0; k < p->net->node[j].inputs; k++) {
            if (p->net->node[j].in[k] != i) continue;
            if (found >= 0) return -1;
            found = j;
        }
    }
    return found;
}
/* Marks what the outputs of the range need, the values it imports, and those it must keep. */
DLSI_FN void dlsi_plan_live(dlsi_plan *p) {
    dls_net *net = p->net;
    int32_t i, k;
    for (i = 0; i < net->nodes; i++) {
        dlsi_slot *s = &net->slot[i];
        memset(s, 0, sizeof *s);
        s->val = s->grad = s->saved = s->packed = DLSI_NONE;
        s->target = (int16_t)i;
        s->residual = s->fold = -1;
        s->act = -1;
    }
    for (i = p->last; i < net->nodes; i++) { /* what later ranges read */
        for (k = 0; k < net->node[i].inputs; k++)
            if (net->node[i].in[k] < p->last) net->slot[net->node[i].in[k]].flags |= DLSI_SLOT_KEPT;
    }
    if (p->output < p->last) net->slot[p->output].flags |= DLSI_SLOT_KEPT;
    for (i = p->last - 1; i >= p->first; i--) {
        dlsi_slot *s = &net->slot[i];
        if (dlsi_slot_is(s, DLSI_SLOT_KEPT)) s->flags |= DLSI_SLOT_LIVE;
        if (!dlsi_slot_is(s, DLSI_SLOT_LIVE)) continue;
        for (k = 0; k < net->node[i].inputs; k++) {
            dlsi_slot *x = &net->slot[net->node[i].in[k]];
            if ((net->node[i].tied >> k & 1u) != 0) continue;
            x->flags |= DLSI_SLOT_LIVE;
            if (net->node[i].in[k] < p->first &&
                (net->node[net->node[i].in[k]].flags & DLSI_NODE_FIXED) == 0)
                x->flags |= DLSI_SLOT_IMPORT;
        }
    }
    for (i = 0; i < p->first; i++) net->slot[i].flags &= (uint8_t) ~(unsigned)DLSI_SLOT_KEPT;
}

/* ---- Merging, for inference: conv or linear, then batchnorm, then a sum, then a clamp ---- */

/* Lets node `next`, the reader of value `end`, join the chain that begins at node `head`. */
DLSI_FN bool dlsi_plan_join(dlsi_plan *p, int32_t head, int32_t end, int32_t next,
                            bool residual_allowed) {
    dls_net *net = p->net;
    dlsi_slot *s = &net->slot[head];
    const dlsi_node *n = next >= 0 ? &net->node[next] : NULL;
    const int32_t act = n != NULL ? n->attr.i[DLS_ATTR_ACT] & 255 : 0;
    if (n == NULL || dlsi_slot_is(&net->slot[next], DLSI_SLOT_MERGED) || s->act > 0 ||
        !dlsi_act_fusable(dlsi_act_of(act)))
        return false;
    if (n->op->merge == DLS_MERGE_SUM) {
        const int32_t other = n->in[0] == end ? n->in[1] : n->in[0];
        if (!residual_allowed || s->residual >= 0 || other >= head ||
            !dls_shape_equal(net->node[other].y, n->y) ||
            (net->node[other].flags & DLSI_NODE_FIXED) != 0)
            return false;
        s->residual = (int16_t)other;
    } else if (n->op->merge == DLS_MERGE_NORM) {
        if (s->fold >= 0 || s->residual >= 0) return false;
        s->fold = (int16_t)next;
    } else if (n->op->merge != DLS_MERGE_CLAMP) {
        return false;
    }
    s->act = (int8_t)act;
    s->target = (int16_t)next;
    net->slot[next].flags |= DLSI_SLOT_MERGED;
    return true;
}
/* Merges what follows head; values inside the chain need no memory. */
DLSI_FN void dlsi_plan_merge(dlsi_plan *p, int32_t head, bool residual_allowed) {
    dlsi_slot *s = &p->net->slot[head];
    int32_t end = head;
    if (dlsi_attr_act(&p->net->node[head].attr) != DLS_ACT_NONE) return;
    s->act = 0;
    while (dlsi_plan_join(p, head, end, dlsi_plan_consumer(p, end), residual_allowed)) {
        if (p->stores > 0) p->net->store[p->net->slot[end].val].bytes = 0;
        end = s->target;
    }
}

/* ---- Lifetimes ---- */

DLSI_FN dlsi_store *dlsi_plan_store(const dlsi_plan *p, uint32_t index) {
    return &p->net->store[index];
}
DLSI_FN uint32_t dlsi_plan_add_store(dlsi_plan *p, size_t bytes, int32_t first, int32_t last) {
    dlsi_store *s = &p->net->store[p->stores];
    s->bytes = dlsi_round_up(bytes, DLS_ALIGN);
    s->offset = 0;
    s->first = first;
    s->last = last;
    return (uint32_t)p->stores++;
}
DLSI_FN void dlsi_plan_extend(const dlsi_plan *p, uint32_t store, int32_t time) {
    if (store != DLSI_NONE && dlsi_plan_store(p, store)->last < time)
        dlsi_plan_store(p, store)->last = time;
}
DLSI_FN size_t dlsi_plan_bytes(const dlsi_plan *p, int32_t i) {
    const dlsi_node *n = &p->net->node[i];
    return dlsi_mul(dlsi_mul(dlsi_count(n->y), (size_t)p->batch),
                    dls_dtype_bytes((dls_dtype)n->dtype));
}
/* First pass: how long each value is read, as if none shared memory. slot.val holds the store. */
DLSI_FN void dlsi_plan_reads(dlsi_plan *p, int32_t i, const dls_op_spec *spec) {
    dls_net *net = p->net;
    const dlsi_node *n = &net->node[i];
    dlsi_slot *s = &net->slot[i];
    int32_t k, t = dlsi_time(p, i);
    if (s->residual >= 0) dlsi_plan_extend(p, net->slot[s->residual].val, t);
    for (k = 0; k < n->inputs; k++) {
        if ((n->tied >> k & 1u) != 0) continue;
        dlsi_plan_extend(p, net->slot[n->in[k]].val, t);
        if (DLSI_TRAINS(p) && dlsi_slot_is(s, DLSI_SLOT_GRAD) && (spec->keep_x >> k & 1u) != 0)
            dlsi_plan_extend(p, net->slot[n->in[k]].val, dlsi_time_back(p, i));
    }
    if (DLSI_TRAINS(p) && spec->keep_y && dlsi_slot_is(s, DLSI_SLOT_GRAD))
        dlsi_plan_extend(p, s->val, dlsi_time_back(p, i));
}
DLSI_FN int32_t dlsi_plan_last_read(const dlsi_plan *p, int32_t x) {
    const uint32_t store = p->net->slot[x].val;
    return store != DLSI_NONE ? dlsi_plan_store(p, store)->last : DLSI_FOREVER;
}
/* Gives value i a store, or its input's when it is an alias or may be written in place. */
DLSI_FN void dlsi_plan_value(dlsi_plan *p, int32_t head, const dls_op_spec *spec) {
    dls_net *net = p->net;
    const dlsi_node *n = &net->node[head];
    dlsi_slot *s = &net->slot[head], *t = &net->slot[s->target];
    int32_t k, x = -1;
    if (spec->alias) {
        x = n->in[0];
        s->flags |= DLSI_SLOT_ALIAS;
    } else if (s->residual >= 0 && dlsi_plan_last_read(p, s->residual) == dlsi_time(p, head) &&
               net->slot[n->in[0]].val != net->slot[s->residual].val) {
        x = s->residual; /* the sum is written where one addend was, unless the head reads that */
    }
    for (k = 0; k < n->inputs && x < 0; k++) {
        if ((spec->inplace >> k & 1u) != 0 && s->target == head &&
            dlsi_count(net->node[n->in[k]].y) == dlsi_count(n->y) &&
            dlsi_plan_last_read(p, n->in[k]) == dlsi_time(p, head))
            x = n->in[k];
    }
    if (x >= 0 && net->slot[x].val != DLSI_NONE) { /* one store, living as long as both */
        const int32_t last = dlsi_plan_store(p, t->val)->last;
        dlsi_plan_store(p, t->val)->bytes = 0;
        t->val = net->slot[x].val;
        dlsi_plan_extend(p, t->val, last);
    }
}
/* Node i writes gradients of parameters of an earlier node before that node does. */
DLSI_FN void dlsi_plan_tie(dlsi_plan *p, int32_t i, int32_t owner) {
    dls_net *net = p->net;
    int32_t j, k;
    net->slot[owner].flags |= DLSI_SLOT_TIED;
    for (j = owner + 1; j < i; j++)
        for (k = 0; k < net->node[j].inputs; k++)
            if ((net->node[j].tied >> k & 1u) != 0 && net->node[j].in[k] == owner)
                net->slot[j].flags |= DLSI_SLOT_TIED;
}
/* Which nodes gradients pass through. */
DLSI_FN void dlsi_plan_grads(dlsi_plan *p) {
    dls_net *net = p->net;
    int32_t i, k;
    for (i = 0; i < p->last; i++) {
        dlsi_slot *s = &net->slot[i];
        const dlsi_node *n = &net->node[i];
        const bool import = dlsi_slot_is(s, DLSI_SLOT_IMPORT);
        bool passes = n->params > 0;
        if (!dlsi_slot_is(s, DLSI_SLOT_LIVE)) continue;
        if (import || (n->flags & DLSI_NODE_INPUT) != 0) {
            if (n->dtype == (uint8_t)DLS_F32 && (p->input_grad || import))
                s->flags |= DLSI_SLOT_GRAD;
            continue;
        }
        if (!dlsi_in_range(p, i)) continue;
        for (k = 0; k < n->inputs; k++) {
            if ((n->tied >> k & 1u) != 0) dlsi_plan_tie(p, i, n->in[k]);
            if ((n->tied >> k & 1u) != 0 || dlsi_slot_is(&net->slot[n->in[k]], DLSI_SLOT_GRAD))
                passes = true;
        }
        if (passes && (n->op->backward != NULL || (n->flags & DLSI_NODE_FIXED) != 0))
            s->flags |= DLSI_SLOT_GRAD;
    }
}
/* Where node i's backward call puts the gradient of its k-th input: the first call to write a
   value's gradient creates its store; later ones add. *handed: dy's memory was passed on. */
DLSI_FN void dlsi_plan_dx(dlsi_plan *p, int32_t i, int32_t k, const dls_op_spec *spec,
                          bool *handed) {
    dls_net *net = p->net;
    const dlsi_node *n = &net->node[i];
    const int32_t x = n->in[k], t = dlsi_time_back(p, i);
    dlsi_slot *s = &net->slot[i], *xs = &net->slot[x];
    bool twice = false;
    int32_t m;
    for (m = 0; m < n->inputs; m++) twice = twice || (m != k && n->in[m] == x);
    if (xs->grad != DLSI_NONE) {
        s->dx_add |= (uint8_t)(1u << k);
    } else if ((net->node[x].flags & DLSI_NODE_FIXED) != 0) {
        xs->grad = DLSI_WITH_WEIGHTS;
    } else if (k == 0 && spec->dx_inplace && !*handed && !twice &&
               dlsi_plan_bytes(p, x) == dlsi_plan_bytes(p, i)) {
        xs->grad = s->grad;
        *handed = true;
    } else {
        xs->grad = dlsi_plan_add_store(p, dlsi_plan_bytes(p, x), t, t);
        if (twice) { /* cleared once, then added to for each */
            s->dx_zero |= (uint8_t)(1u << k);
            s->dx_add |= (uint8_t)(1u << k);
        }
    }
    if (xs->grad != DLSI_WITH_WEIGHTS) {
        const bool stays = !dlsi_in_range(p, x) || (net->node[x].flags & DLSI_NODE_INPUT) != 0;
        dlsi_plan_extend(p, xs->grad, stays ? DLSI_FOREVER : dlsi_time_back(p, x));
    }
}
DLSI_FN void dlsi_plan_backward(dlsi_plan *p) {
    dls_net *net = p->net;
    dls_op_spec spec;
    int32_t i, k;
    for (i = p->first; i < p->last; i++) /* gradients come from outside into every kept value */
        if (dlsi_slot_is(&net->slot[i], DLSI_SLOT_KEPT) &&
            dlsi_slot_is(&net->slot[i], DLSI_SLOT_GRAD))
            net->slot[i].grad =
                dlsi_plan_add_store(p, dlsi_plan_bytes(p, i), p->steps + 1, dlsi_time_back(p, i));
    for (i = p->last - 1; i >= p->first; i--) {
        const dlsi_node *n = &net->node[i];
        bool handed = false;
        if (net->slot[i].grad == DLSI_NONE || n->op->backward == NULL) continue;
        dlsi_net_spec(net, i, &p->cx, p->batch, true, &spec);
        for (k = 0; k < n->inputs; k++)
            if ((n->tied >> k & 1u) == 0 && dlsi_slot_is(&net->slot[n->in[k]], DLSI_SLOT_GRAD))
                dlsi_plan_dx(p, i, k, &spec, &handed);
    }
}

/* ---- Placing: best fit, larger stores first, three orders tried ---- */

DLSI_FN bool dlsi_store_before(const dlsi_store *a, const dlsi_store *b, int32_t rule) {
    if (a->bytes != b->bytes) return a->bytes > b->bytes;
    if (rule == 0) return a->first < b->first;
    if (rule == 1) return a->last - a->first > b->last - b->first;
    return a->last > b->last;
}
/* Offsets for all stores in order[0..n); returns the bytes they take. placed: scratch of n. */
DLSI_FN size_t dlsi_place(dlsi_store *store, const int16_t *order, int16_t *placed, int32_t n) {
    size_t total = 0;
    int32_t i, j, count = 0;
    for (i = 0; i < n; i++) {
        dlsi_store *s = &store[order[i]];
        size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
        for (j = 0; j < count; j++) { /* placed is sorted by offset */
            const dlsi_store *o = &store[placed[j]];
            if (o->last < s->first || o->first > s->last) continue;
            if (o->offset > end && o->offset - end >= s->bytes && o->offset - end < best_gap) {
                best = end;
                best_gap = o->offset - end;
            }
            end = dlsi_max_size(end, o->offset + o->bytes);
        }
        s->offset = best != SIZE_MAX ? best : end;
        total = dlsi_max_size(total, dlsi_add(s->offset, s->bytes));
        for (j = count++; j > 0 && store[placed[j - 1]].offset > s->offset; j--)
            placed[j] = placed[j - 1];
        placed[j] = order[i];
    }
    return total;
}
DLSI_FN void dlsi_plan_place(dlsi_plan *p) {
    dlsi_store *store = p->net->store;
    int16_t *order = p->net->order, *placed = order + p->stores;
    int32_t i, j, n, rule, best = 0;
    size_t bytes;
    p->values = SIZE_MAX;
    for (rule = 0; rule < 4; rule++) { /* the fourth time, the best rule again */
        const int32_t use = rule < 3 ? rule : best;
        if (rule == 3 && best == 2) break;
        for (i = 0, n = 0; i < p->stores; i++) {
            if (store[i].bytes == 0) continue;
            for (j = n++; j > 0 && dlsi_store_before(&store[i], &store[order[j - 1]], use); j--)
                order[j] = order[j - 1];
            order[j] = (int16_t)i;
        }
        bytes = dlsi_place(store, order, placed, n);
        if (bytes < p->values) {
            p->values = bytes;
            best = rule;
        }
    }
    for (i = 0; i < p->stores; i++) { /* the lower bound: what lives when each store begins */
        for (j = 0, bytes = 0; j < p->stores; j++)
            if (store[j].first <= store[i].first && store[j].last >= store[i].first)
                bytes += store[j].bytes;
        p->live_peak = dlsi_max_size(p->live_peak, bytes);
    }
}

/* ---- The plan ---- */

DLSI_FN dls_status dlsi_plan_open(dlsi_plan *p, dls_net *net, const dls_exec_desc *desc) {
    dls_status st;
    int32_t i;
    memset(p, 0, sizeof *p);
    dlsi_error_clear(&net->plan_error);
    if (net->error.status != DLS_OK) return net->error.status;
    if (net->nodes == 0)
        return dlsi_fail(&net->plan_error, DLS_E_STATE, DLSI_MSG("the network is empty"), NULL, 0,
                         0, 0);
    p->net = net;
    p->batch = dlsi_or(desc->batch, 1);
    p->first = desc->first;
    p->last = desc->last == 0 ? net->nodes : desc->last;
    p->train = desc->train;
    p->input_grad = desc->input_grad;
    p->output = dls_net_output_of(net);
    if (p->batch < 1 || p->first < 0 || p->last > net->nodes || p->first >= p->last)
        return dlsi_fail(&net->plan_error, DLS_E_ARG,
                         DLSI_MSG("batch {0} or node range {1}..{2} is out of range"), NULL,
                         p->batch, p->first, p->last);
    for (i = 0; i < p->last; i++) { /* rows and elements of a value are counted in int32 */
        if ((size_t)p->batch > (size_t)(INT32_MAX / 2) / dlsi_count(net->node[i].y))
            return dlsi_fail(&net->plan_error, DLS_E_LIMIT,
                             DLSI_MSG("{0} samples of node {1} are too many elements"), NULL,
                             p->batch, i, 0);
    }
    if (p->output < p->first || p->output >= p->last) p->output = p->last - 1;
    p->steps = p->last - p->first;
    st = dls_cx_init(&p->cx, desc->isa, desc->strict, desc->pool);
    if (st != DLS_OK)
        return dlsi_fail(&net->plan_error, st,
                         DLSI_MSG("instruction set '{s}' is not compiled in or this CPU lacks it"),
                         DLS_ENABLE_MESSAGES ? dls_isa_name(desc->isa) : NULL, 0, 0, 0);
    p->fuse = !desc->train && !desc->no_fuse && !desc->strict;
    return p->train && !DLS_ENABLE_TRAIN ? DLS_E_UNSUPPORTED : DLS_OK;
}
/* First the stores of all values, then who shares one; then gradients, saved and packed memory. */
DLSI_FN void dlsi_plan_forward(dlsi_plan *p) {
    dls_net *net = p->net;
    dls_op_spec spec;
    int32_t i;
    for (i = 0; i < p->last; i++) {
        dlsi_slot *s = &net->slot[i];
        const bool outside =
            dlsi_slot_is(s, DLSI_SLOT_IMPORT) || (net->node[i].flags & DLSI_NODE_INPUT) != 0;
        if (!dlsi_slot_is(s, DLSI_SLOT_LIVE) || (net->node[i].flags & DLSI_NODE_FIXED) != 0)
            continue;
        if (!dlsi_in_range(p, i) && !outside) continue;
        s->val = dlsi_plan_add_store(p, dlsi_plan_bytes(p, i), outside ? 0 : dlsi_time(p, i),
                                     outside ? 1 : dlsi_time(p, i));
        if (dlsi_slot_is(s, DLSI_SLOT_KEPT)) dlsi_plan_extend(p, s->val, DLSI_FOREVER);
    }
    for (i = p->first; i < p->last; i++) {
        dlsi_slot *s = &net->slot[i];
        if (!dlsi_slot_is(s, DLSI_SLOT_LIVE) || dlsi_slot_is(s, DLSI_SLOT_MERGED)) continue;
        dlsi_net_spec(net, i, &p->cx, p->batch, p->train, &spec);
        if (DLSI_VARIANTS > 1 && p->fuse && spec.packed > 0) dlsi_plan_merge(p, i, spec.residual);
        if (s->target != i) dlsi_plan_store(p, net->slot[s->target].val)->first = dlsi_time(p, i);
        dlsi_plan_reads(p, i, &spec);
    }
    for (i = p->first; i < p->last; i++) {
        dlsi_slot *s = &net->slot[i];
        if (!dlsi_slot_is(s, DLSI_SLOT_LIVE) || dlsi_slot_is(s, DLSI_SLOT_MERGED) ||
            net->node[i].op->forward == NULL)
            continue;
        dlsi_net_spec(net, i, &p->cx, p->batch, p->train, &spec);
        dlsi_plan_value(p, i, &spec);
        if (spec.saved_sample > 0 || spec.saved_batch > 0)
            s->saved = dlsi_plan_add_store(
                p, dlsi_add(dlsi_mul(spec.saved_sample, (size_t)p->batch), spec.saved_batch),
                dlsi_time(p, i), DLSI_TRAINS(p) ? dlsi_time_back(p, i) : dlsi_time(p, i));
        if (spec.packed > 0) {
            s->packed = (uint32_t)(p->packed / DLS_ALIGN);
            p->packed = dlsi_add(p->packed, dlsi_round_up(spec.packed, DLS_ALIGN));
        }
        if (s->fold >= 0)
            spec.work = dlsi_max_size(spec.work, dlsi_reals(2 * (size_t)net->node[i].y.c));
        p->work = dlsi_max_size(p->work, spec.work);
        p->work_thread = dlsi_max_size(p->work_thread, spec.work_thread);
    }
}
DLSI_FN dls_status dlsi_net_plan(dlsi_plan *p, dls_net *net, const dls_exec_desc *desc) {
    int32_t i;
    dls_status st = dlsi_plan_open(p, net, desc);
    if (st != DLS_OK) return st;
    dlsi_plan_live(p);
    if (DLSI_TRAINS(p)) dlsi_plan_grads(p);
    dlsi_plan_forward(p);
    if (DLSI_TRAINS(p)) dlsi_plan_backward(p);
    dlsi_plan_place(p);
    for (i = 0; i < p->last; i++) { /* from stores to offsets */
        dlsi_slot *s = &net->slot[i];
        if (s->val != DLSI_NONE)
            s->val = (uint32_t)(dlsi_plan_store(p, s->val)->offset / DLS_ALIGN);
        if (s->grad < DLSI_WITH_WEIGHTS)
            s->grad = (uint32_t)(dlsi_plan_store(p, s->grad)->offset / DLS_ALIGN);
        if (s->saved != DLSI_NONE)
            s->saved = (uint32_t)(dlsi_plan_store(p, s->saved)->offset / DLS_ALIGN);
    }
    if (p->values / DLS_ALIGN >= DLSI_WITH_WEIGHTS || p->packed / DLS_ALIGN >= DLSI_WITH_WEIGHTS ||
        p->work == SIZE_MAX)
        return dlsi_fail(&net->plan_error, DLS_E_LIMIT,
                         DLSI_MSG("the plan needs more memory than can be addressed"), NULL, 0, 0,
                         0);
    return DLS_OK;
}

/* ---- Executor ---- */

DLSI_FN dls_exec *dlsi_exec_layout(dlsi_layout *l, const dlsi_plan *p) {
    const size_t threads = (size_t)dls_pool_threads(p->cx.pool),
                 stride = dlsi_round_up(p->work_thread, DLS_ALIGN);
    const dlsi_node *node = p->net->node;
    const size_t first = node[p->first].param;
    const size_t end = p->last < p->net->nodes ? node[p->last].param : p->net->param_count;
    dls_exec *e = (dls_exec *)dlsi_layout_take(l, sizeof *e);
    dlsi_slot *slot = (dlsi_slot *)dlsi_layout_take(l, (size_t)p->last * sizeof *slot);
    const size_t tables = l->used;
    dls_real *grads = (dls_real *)dlsi_layout_take(l, DLSI_TRAINS(p) ? dlsi_reals(end - first) : 0);
    unsigned char *packed = (unsigned char *)dlsi_layout_take(l, p->packed);
    unsigned char *values = (unsigned char *)dlsi_layout_take(l, p->values);
    void *work = dlsi_layout_take(l, p->work);
    unsigned char *scratch = (unsigned char *)dlsi_layout_take(l, dlsi_mul(threads, stride));
    if (e == NULL) return NULL;
    memset(e, 0, sizeof *e);
    e->slot = slot;
    e->grads = DLSI_TRAINS(p) ? grads : NULL;
    e->param_first = first;
    e->grad_count = DLSI_TRAINS(p) ? end - first : 0;
    e->packed = packed;
    e->values = values;
    e->work = work;
    e->scratch = scratch;
    e->scratch_stride = stride;
    e->memory.tables = tables;
    e->memory.grads = dlsi_reals(e->grad_count);
    e->memory.packed = p->packed;
    e->memory.values = p->values;
    e->memory.scratch = p->work + threads * stride;
    e->memory.live_peak = p->live_peak;
    e->memory.total = dlsi_layout_total(l);
    return e;
}
DLS_API size_t dls_exec_size(dls_net *net, const dls_exec_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    dls_exec_desc none;
    dlsi_plan p;
    DLSI_ZERO(none);
    if (dlsi_net_plan(&p, net, desc != NULL ? desc : &none) != DLS_OK) return 0;
    (void)dlsi_exec_layout(&l, &p);
    return l.used == SIZE_MAX ? 0 : dlsi_layout_total(&l);
}
DLS_API dls_status dls_exec_init(dls_exec **exec, dls_net *net, const dls_exec_desc *desc,
                                 void *mem, size_t bytes) {
    dlsi_layout l = dlsi_layout_at(NULL);
    dls_exec_desc none;
    dlsi_plan p;
    dls_status st;
    *exec = NULL;
    DLSI_ZERO(none);
    st = dlsi_net_plan(&p, net, desc != NULL ? desc : &none);
    if (st != DLS_OK) return st;
    (void)dlsi_exec_layout(&l, &p);
    if (mem == NULL || l.used == SIZE_MAX || bytes < dlsi_layout_total(&l)) return DLS_E_MEMORY;
    l = dlsi_layout_at(mem);
    *exec = dlsi_exec_layout(&l, &p);
    (*exec)->net = net;
    (*exec)->cx = p.cx;
    (*exec)->first = p.first;
    (*exec)->last = p.last;
    (*exec)->batch = p.batch;
    (*exec)->output = p.output;
    (*exec)->train = p.train;
    memcpy((*exec)->slot, net->slot, (size_t)p.last * sizeof(dlsi_slot));
    if (DLSI_TRAINS(&p)) memset((*exec)->grads, 0, (*exec)->memory.grads);
    return DLS_OK;
}
#if DLS_ENABLE_HEAP
DLS_API dls_exec *dls_exec_create(dls_net *net, const dls_exec_desc *desc) {
    const size_t bytes = dls_exec_size(net, desc);
    void *mem = dlsi_heap_take(bytes);
    dls_exec *exec = NULL;
    if (mem == NULL) {
        if (bytes != 0)
            (void)dlsi_fail(&net->plan_error, DLS_E_MEMORY, DLSI_MSG("no memory for the executor"),
                            NULL, 0, 0, 0);
        return NULL;
    }
    if (dls_exec_init(&exec, net, desc, mem, bytes) != DLS_OK) dlsi_heap_give(mem);
    return exec;
}
DLS_API void dls_exec_destroy(dls_exec *exec) { dlsi_heap_give(exec); }
#endif

DLSI_FN void *dlsi_exec_at(const dls_exec *e, uint32_t offset) {
    return offset == DLSI_NONE ? NULL : e->values + (size_t)offset * DLS_ALIGN;
}
/* Memory of a value as an input: parameters of fixed nodes lie with the weights. */
DLSI_FN const void *dlsi_exec_x(const dls_exec *e, int32_t i) {
    const dlsi_node *n = &e->net->node[i];
    if ((n->flags & DLSI_NODE_FIXED) != 0) return e->net->params + n->param;
    return dlsi_exec_at(e, e->slot[i].val);
}
DLSI_FN dls_real *dlsi_exec_dx(const dls_exec *e, int32_t i) {
    const dlsi_node *n = &e->net->node[i];
    if (!dlsi_slot_is(&e->slot[i], DLSI_SLOT_GRAD)) return NULL;
    if ((n->flags & DLSI_NODE_FIXED) != 0)
        return i >= e->first ? e->grads + (n->param - e->param_first) : NULL;
    return (dls_real *)dlsi_exec_at(e, e->slot[i].grad);
}
DLSI_FN bool dlsi_exec_is_input(const dls_exec *e, int32_t i) {
    return dlsi_slot_is(&e->slot[i], DLSI_SLOT_IMPORT) ||
           (i >= e->first && (e->net->node[i].flags & DLSI_NODE_INPUT) != 0 &&
            dlsi_slot_is(&e->slot[i], DLSI_SLOT_LIVE));
}
DLS_API dls_val dls_exec_input_val(const dls_exec *exec, int32_t i) {
    int32_t v;
    for (v = 0; v < exec->last; v++)
        if (dlsi_exec_is_input(exec, v) && i-- == 0) return v;
    return DLS_VAL_NONE;
}
DLS_API void *dls_exec_input(dls_exec *exec, int32_t i) {
    const dls_val v = dls_exec_input_val(exec, i);
    return v < 0 ? NULL : dlsi_exec_at(exec, exec->slot[v].val);
}
DLS_API const dls_real *dls_exec_output(const dls_exec *exec) {
    return (const dls_real *)dlsi_exec_x(exec, exec->output);
}
DLS_API const void *dls_exec_value(const dls_exec *exec, dls_val x) {
    if (x < 0 || x >= exec->last) return NULL;
    if (!dlsi_slot_is(&exec->slot[x], DLSI_SLOT_KEPT) && !dlsi_exec_is_input(exec, x)) return NULL;
    return dlsi_exec_x(exec, x);
}
DLS_API dls_real *dls_exec_output_grad(dls_exec *exec) {
    return DLSI_TRAINS(exec) ? dlsi_exec_dx(exec, exec->output) : NULL;
}
DLS_API const dls_real *dls_exec_input_grad(const dls_exec *exec, int32_t i) {
    const dls_val v = dls_exec_input_val(exec, i);
    return v < 0 || !DLSI_TRAINS(exec) ? NULL : dlsi_exec_dx(exec, v);
}
DLS_API dls_real *dls_exec_grads(dls_exec *exec) { return exec->grads; }
DLS_API void dls_exec_memory_of(const dls_exec *exec, dls_exec_memory *memory) {
    *memory = exec->memory;
}

/* Everything of a call that forward and backward share. */
DLSI_FN void dlsi_exec_call(const dls_exec *e, int32_t i, dls_op_call *call) {
    const dlsi_node *n = &e->net->node[i];
    const dlsi_slot *s = &e->slot[i];
    int32_t k;
    memset(call, 0, sizeof *call);
    call->attr = &n->attr;
    call->cx = &e->cx;
    call->n = e->n;
    call->inputs = n->inputs;
    call->ys = n->y;
    for (k = 0; k < n->inputs; k++) {
        call->xs[k] = e->net->node[n->in[k]].y;
        call->x[k] = dlsi_exec_x(e, n->in[k]);
        if ((e->net->node[n->in[k]].flags & DLSI_NODE_FIXED) != 0) call->fixed |= (uint32_t)1 << k;
    }
    call->y = dlsi_exec_at(e, e->slot[s->target].val);
    for (k = 0; k < n->params; k++) call->w[k] = e->net->params + dlsi_param_at(n, k);
    for (k = 0; k < n->inputs; k++)
        if ((n->tied >> k & 1u) != 0) call->w[0] = e->net->params + e->net->node[n->in[k]].param;
    call->saved = dlsi_exec_at(e, s->saved);
    call->work = e->work;
    call->scratch = e->scratch;
    call->scratch_stride = e->scratch_stride;
    call->act = s->act;
    call->residual = s->residual >= 0 ? (const dls_real *)dlsi_exec_x(e, s->residual) : NULL;
    call->packed = s->packed != DLSI_NONE ? e->packed + (size_t)s->packed * DLS_ALIGN : NULL;
    call->train = DLS_ENABLE_TRAIN && e->training_call;
    call->seed = DLS_ENABLE_TRAIN ? dlsi_seed(e->seed, (uint64_t)i) : 0;
    call->sample = e->sample;
    call->weight = DLSI_TRAINS(e) && e->total > 0 ? (dls_real)e->n / (dls_real)e->total : 1;
}
/* Weights to kernel order, normalisations folded in; again whenever the weights changed. */
DLSI_FN void dlsi_exec_pack(dls_exec *e) {
    dls_op_call call, norm;
    int32_t i;
    if (e->is_packed && e->packed_version == e->net->version) return;
    for (i = e->first; i < e->last; i++) {
        dls_real *scale = NULL, *shift = NULL;
        if (e->slot[i].packed == DLSI_NONE) continue;
        dlsi_exec_call(e, i, &call);
        call.n = e->batch;
        if (e->slot[i].fold >= 0) {
            scale = (dls_real *)e->work;
            shift = scale + e->net->node[i].y.c;
            dlsi_exec_call(e, e->slot[i].fold, &norm);
            e->net->node[e->slot[i].fold].op->affine(&norm, scale, shift);
        }
        e->net->node[i].op->pack(&call, scale, shift,
                                 (void *)(e->packed + (size_t)e->slot[i].packed * DLS_ALIGN));
    }
    e->packed_version = e->net->version;
    e->is_packed = true;
}
DLSI_FN dls_status dlsi_exec_failed(dls_exec *e, int32_t i, dls_status st) {
    (void)dlsi_fail(
        &e->error, st,
        DLSI_MSG("refused its input; token ids must be at least 0 and below the vocabulary"),
        e->net->node[i].op->name, 0, 0, 0);
    e->error.node = i;
    return st;
}
DLS_API const dls_error *dls_exec_error(const dls_exec *exec) { return &exec->error; }
DLSI_FN dls_status dlsi_exec_run(dls_exec *e, int32_t n) {
    dls_op_call call;
    int32_t i;
    dls_status st = dlsi_net_need_params(e->net, true);
    dlsi_error_clear(&e->error);
    if (st != DLS_OK)
        return dlsi_fail(&e->error, st, DLSI_MSG("the network has no weights: bind them first"),
                         NULL, 0, 0, 0);
    if (n < 1 || n > e->batch)
        return dlsi_fail(&e->error, DLS_E_ARG, DLSI_MSG("{0} samples; the plan is for 1 to {1}"),
                         NULL, n, e->batch, 0);
    e->n = n;
    if (e->memory.packed > 0) dlsi_exec_pack(e);
    for (i = e->first; i < e->last; i++) {
        const dlsi_slot *s = &e->slot[i];
        const dlsi_node *node = &e->net->node[i];
        if (!dlsi_slot_is(s, DLSI_SLOT_LIVE) || dlsi_slot_is(s, DLSI_SLOT_MERGED) ||
            node->op->forward == NULL)
            continue;
        if (dlsi_slot_is(s, DLSI_SLOT_ALIAS)) continue;
        dlsi_exec_call(e, i, &call);
        st = node->op->forward(&call);
        if (st != DLS_OK) return dlsi_exec_failed(e, i, st);
    }
    return DLS_OK;
}
DLS_API dls_status dls_exec_forward(dls_exec *exec, int32_t n) {
    exec->training_call = false;
    exec->total = 0;
    return dlsi_exec_run(exec, n);
}
DLS_API dls_status dls_exec_forward_train(dls_exec *exec, int32_t n, uint64_t seed, int64_t sample,
                                          int64_t total) {
    if (!DLSI_TRAINS(exec)) return DLS_E_STATE;
    exec->training_call = true;
    exec->seed = seed;
    exec->sample = sample;
    exec->total = total;
    return dlsi_exec_run(exec, n);
}
DLSI_FN void dlsi_exec_back(dls_exec *e, int32_t i, bool add, dls_op_call *call) {
    const dlsi_node *n = &e->net->node[i];
    const dlsi_slot *s = &e->slot[i];
    int32_t k, owner = i;
    dlsi_exec_call(e, i, call);
    call->dy = dlsi_exec_dx(e, i);
    call->dx_add = s->dx_add;
    for (k = 0; k < n->inputs; k++) {
        const bool fixed = (call->fixed >> k & 1u) != 0;
        if ((n->tied >> k & 1u) != 0) {
            owner = n->in[k];
            continue;
        }
        call->dx[k] = dlsi_exec_dx(e, n->in[k]);
        if (call->dx[k] != NULL && (s->dx_zero >> k & 1u) != 0)
            memset(call->dx[k], 0, (size_t)e->n * dlsi_count(call->xs[k]) * sizeof(dls_real));
        if (fixed && add) call->dx_add |= (uint32_t)1 << k;
    }
    call->dw_add = add || dlsi_slot_is(s, DLSI_SLOT_TIED);
    if (owner >= e->first) {
        const dlsi_node *own = &e->net->node[owner];
        const int32_t count = owner == i ? own->params : 1;
        for (k = 0; k < count; k++)
            call->dw[k] = e->grads + (dlsi_param_at(own, k) - e->param_first);
    }
    if (owner == i) { /* tied tables are final only when their owner has run */
        call->ready = e->ready;
        call->ready_user = e->ready_user;
    }
}
/* A trained tensor that is a node by itself has no backward to report its gradient: it is final
   here, after all that use it. */
DLSI_FN void dlsi_exec_fixed_ready(const dls_exec *e, int32_t i) {
    const dlsi_node *n = &e->net->node[i];
    if ((n->flags & DLSI_NODE_FIXED) != 0 && e->ready != NULL && dlsi_exec_dx(e, i) != NULL)
        e->ready(e->ready_user, dlsi_exec_dx(e, i), dlsi_count(n->y));
}
DLS_API dls_status dls_exec_backward(dls_exec *exec, bool add) {
    dls_op_call call;
    int32_t i;
    if (!DLSI_TRAINS(exec) || exec->n == 0)
        return dlsi_fail(&exec->error, DLS_E_STATE,
                         DLSI_MSG("backward needs a plan with train, and a forward call before"),
                         NULL, 0, 0, 0);
    for (i = exec->last - 1; i >= exec->first; i--) {
        const dls_op *op = exec->net->node[i].op;
        dls_status st;
        dlsi_exec_fixed_ready(exec, i);
        if (exec->slot[i].grad == DLSI_NONE || op->backward == NULL ||
            !dlsi_slot_is(&exec->slot[i], DLSI_SLOT_GRAD))
            continue;
        dlsi_exec_back(exec, i, add, &call);
        st = op->backward(&call);
        if (st != DLS_OK) return dlsi_exec_failed(exec, i, st);
    }
    return DLS_OK;
}

/* ---- Cuts ---- */

/* Whether inference would merge nodes on both sides of a cut. */
DLSI_FN bool dlsi_net_merged_across(dls_net *net, int32_t at) {
    dls_exec_desc desc;
    dls_op_spec spec;
    dlsi_plan p;
    int32_t i;
    DLSI_ZERO(desc);
    if (dlsi_plan_open(&p, net, &desc) != DLS_OK) return true;
    dlsi_plan_live(&p);
    for (i = 0; i < at; i++) {
        if (net->node[i].op->merge != DLS_MERGE_HEAD ||
            !dlsi_slot_is(&net->slot[i], DLSI_SLOT_LIVE))
            continue;
        dlsi_net_spec(net, i, NULL, 1, false, &spec);
        dlsi_plan_merge(&p, i, spec.residual);
        if (net->slot[i].target >= at) return true;
    }
    return false;
}
DLS_API int32_t dls_net_cut(dls_net *net, int32_t at, dls_val *out, int32_t max) {
    int32_t i, j, k, count = 0;
    if (at <= 0 || at >= net->nodes || dlsi_net_merged_across(net, at)) return -1;
    for (i = 0; i < at; i++) {
        bool crosses = dls_net_output_of(net) == i;
        for (j = at; j < net->nodes; j++)
            for (k = 0; k < net->node[j].inputs; k++)
                if (net->node[j].in[k] == i && (net->node[j].tied >> k & 1u) == 0) crosses = true;
        if (!crosses || (net->node[i].flags & DLSI_NODE_FIXED) != 0) continue;
        if (count == max) return -1;
        out[count++] = i;
    }
    return count;
}

/* ------------------------------------------------------------------------------------------------
   >>model.impl                            deps: config base port tensor op net model.api
   File, all numbers little-endian:
     0  "DLSHMODL"   8  u32 version 1   12  u32 sections   16  u64 bytes of the file
    24  u64 hash of the graph   32  u32 nodes   36  u32 0   40  u64 elements of parameters
    48  12 bytes 0   60  u32 CRC-32C of bytes 0..59 and the table
    64  table: per section u32 id, u32 CRC-32C, u64 offset, u64 bytes, u64 0
   Sections follow in the order of their ids, each at the next multiple of 64, zeros between:
     1 GRAPH   i32 output, then per node: u8 length of the op's name, the name, u8 inputs, i16 each,
               i32 x 8 and f32 x 2 attributes
     2 PARAMS  f32 x elements, each tensor padded to 16 as in memory
     3 META    text
     4 TRAIN   a trainer's state, see >>train.impl
     */

enum { DLSI_GRAPH = 1, DLSI_PARAMS = 2, DLSI_META = 3, DLSI_TRAIN = 4, DLSI_SECTIONS = 4 };
#define DLSI_MODEL_HEAD 64
#define DLSI_MODEL_ROW 32
#define DLSI_NODE_FIXED_BYTES (2 + 4 * (DLS_ATTR_INTS + DLS_ATTR_REALS))

DLSI_FN dls_status dlsi_model_bad(dls_error *error, dls_status st, const char *what, int32_t a) {
    return dlsi_fail(error, st, what, NULL, a, 0, 0);
}
DLSI_FN bool dlsi_all_zero(const unsigned char *p, size_t n) {
    while (n > 0 && p[n - 1] == 0) n--;
    return n == 0;
}
/* A u64 that is a size here; SIZE_MAX when it is too much for this device. */
DLSI_FN size_t dlsi_load_size(const unsigned char *p) {
    const uint64_t v = dlsi_load64(p);
    return v > (uint64_t)(SIZE_MAX / 2) ? SIZE_MAX : (size_t)v;
}
/* The table's rows: ids rise, sections follow each other without gaps or overlap to the file's
   end. */
DLSI_FN dls_status dlsi_model_table(dls_model *m, uint32_t sections, dls_error *error) {
    size_t end = DLSI_MODEL_HEAD + sections * DLSI_MODEL_ROW, at, length;
    uint32_t i, last = 0;
    for (i = 0; i < sections; i++) {
        const unsigned char *row = m->bytes + DLSI_MODEL_HEAD + i * DLSI_MODEL_ROW;
        const uint32_t id = dlsi_load32(row);
        at = dlsi_load_size(row + 8);
        length = dlsi_load_size(row + 16);
        if (id <= last || id > DLSI_SECTIONS || at != dlsi_round_up(end, 64) || at > m->size ||
            length > m->size - at || !dlsi_all_zero(row + 24, 8))
            return dlsi_model_bad(error, DLS_E_FORMAT,
                                  DLSI_MSG("section {0} of the table is out of place"), (int32_t)i);
        if (!dlsi_all_zero(m->bytes + end, at - end) ||
            dls_crc32c(0, m->bytes + at, length) != dlsi_load32(row + 4))
            return dlsi_model_bad(error, DLS_E_CHECKSUM, DLSI_MSG("section {0} is damaged"),
                                  (int32_t)i);
        m->at[id] = at;
        m->length[id] = length;
        last = id;
        end = at + length;
    }
    if (end != m->size)
        return dlsi_model_bad(error, DLS_E_FORMAT,
                              DLSI_MSG("the file goes on after its last section"), 0);
    return DLS_OK;
}
DLS_API dls_status dls_model_open(dls_model *model, const void *bytes, size_t size,
                                  dls_error *error) {
    const unsigned char *p = (const unsigned char *)bytes;
    uint32_t sections, crc;
    dls_status st;
    memset(model, 0, sizeof *model);
    dlsi_error_clear(error);
    if (size < DLSI_MODEL_HEAD || memcmp(p, "DLSHMODL", 8) != 0)
        return dlsi_model_bad(error, DLS_E_FORMAT,
                              DLSI_MSG("not a dlshard model: its first bytes are not DLSHMODL"), 0);
    if (dlsi_load32(p + 8) != 1)
        return dlsi_model_bad(error, DLS_E_VERSION,
                              DLSI_MSG("model format {0}; this program reads 1"),
                              (int32_t)(dlsi_load32(p + 8) & 0x7FFFFFFF));
    sections = dlsi_load32(p + 12);
    if (sections < 2 || sections > DLSI_SECTIONS ||
        size < DLSI_MODEL_HEAD + sections * DLSI_MODEL_ROW || dlsi_load_size(p + 16) != size)
        return dlsi_model_bad(error, DLS_E_FORMAT,
                              DLSI_MSG("the file is cut short or is longer than its header says"),
                              0);
    crc = dls_crc32c(0, p, 60);
    crc = dls_crc32c(crc, p + DLSI_MODEL_HEAD, sections * DLSI_MODEL_ROW);
    if (crc != dlsi_load32(p + 60))
        return dlsi_model_bad(error, DLS_E_CHECKSUM, DLSI_MSG("the header is damaged"), 0);
    model->bytes = p;
    model->size = size;
    model->hash = dlsi_load64(p + 24);
    model->param_count = dlsi_load_size(p + 40);
    st = dlsi_model_table(model, sections, error);
    if (st != DLS_OK) return st;
    if (dlsi_load32(p + 32) > 32767 || !dlsi_all_zero(p + 36, 4) || !dlsi_all_zero(p + 48, 12) ||
        model->at[DLSI_GRAPH] == 0 || model->at[DLSI_PARAMS] == 0 ||
        model->length[DLSI_GRAPH] < 4 ||
        dlsi_mul(model->param_count, 4) != model->length[DLSI_PARAMS])
        return dlsi_model_bad(error, DLS_E_FORMAT,
                              DLSI_MSG("graph or weights do not agree with the header"), 0);
    model->nodes = (int32_t)dlsi_load32(p + 32);
    return DLS_OK;
}

/* One node at *p; moves *p behind it. */
DLSI_FN dls_status dlsi_model_node(const unsigned char **p, const unsigned char *end, dls_net *net,
                                   dls_op_find_fn find) {
    char name[64];
    dls_val in[DLS_OP_INPUTS];
    dls_attr attr;
    const dls_op *op;
    const unsigned char *s = *p;
    size_t length = s < end ? *s : 0, left = (size_t)(end - s);
    int32_t inputs, i;
    if (length < 1 || length >= sizeof name || left < length + DLSI_NODE_FIXED_BYTES)
        return dlsi_fail(&net->error, DLS_E_FORMAT, DLSI_MSG("node {0} of the file is cut short"),
                         NULL, net->nodes, 0, 0);
    memcpy(name, s + 1, length);
    name[length] = '\0';
    s += 1 + length;
    inputs = *s++;
    op = find(name);
    if (op == NULL) /* the name itself does not outlive this call */
        return dlsi_fail(&net->error, DLS_E_NOT_FOUND,
                         DLSI_MSG("node {0} is of an op that this program does not have"), NULL,
                         net->nodes, 0, 0);
    if (inputs > DLS_OP_INPUTS || left < length + DLSI_NODE_FIXED_BYTES + 2 * (size_t)inputs)
        return dlsi_fail(&net->error, DLS_E_FORMAT, DLSI_MSG("node {0} of the file has {1} inputs"),
                         NULL, net->nodes, inputs, 0);
    for (i = 0; i < inputs; i++, s += 2) in[i] = (dls_val)dlsi_load16(s);
    for (i = 0; i < DLS_ATTR_INTS; i++, s += 4) attr.i[i] = (int32_t)dlsi_load32(s);
    for (i = 0; i < DLS_ATTR_REALS; i++, s += 4) attr.f[i] = dlsi_bits_float(dlsi_load32(s));
    *p = s;
    return dls_net_op(net, op, in, inputs, &attr) < 0 ? net->error.status : DLS_OK;
}
DLS_API dls_status dlsi_model_build(const dls_model *model, dls_net *net, dls_op_find_fn find) {
    const unsigned char *p = model->bytes + model->at[DLSI_GRAPH],
                        *end = p + model->length[DLSI_GRAPH];
    const int32_t output = (int32_t)dlsi_load32(p);
    int32_t i;
    dls_status st = net->error.status;
    if (st == DLS_OK && net->nodes != 0)
        st = dlsi_fail(&net->error, DLS_E_STATE, DLSI_MSG("a model is built in an empty network"),
                       NULL, 0, 0, 0);
    p += 4;
    for (i = 0; i < model->nodes && st == DLS_OK; i++) st = dlsi_model_node(&p, end, net, find);
    if (st != DLS_OK) return st;
    if (output < -1 || output >= net->nodes || p != end || net->param_count != model->param_count)
        return dlsi_fail(&net->error, DLS_E_FORMAT,
                         DLSI_MSG("the graph does not agree with the header"), NULL, 0, 0, 0);
    net->output = output;
    if (dls_net_hash(net) != model->hash)
        return dlsi_fail(&net->error, DLS_E_FORMAT,
                         DLSI_MSG("the graph's hash is not the header's"), NULL, 0, 0, 0);
    return DLS_OK;
}
DLSI_FN void dlsi_load_reals(const unsigned char *p, dls_real *x, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) x[i] = (dls_real)dlsi_bits_float(dlsi_load32(p + 4 * i));
}
DLSI_FN void dlsi_store_reals(unsigned char *p, const dls_real *x, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) dlsi_store32(p + 4 * i, dlsi_float_bits((float)x[i]));
}
DLS_API dls_status dls_model_params(const dls_model *model, dls_net *net) {
    dls_status st = dlsi_net_need_params(net, false);
    if (st != DLS_OK) return st;
    if (net->param_count != model->param_count || dls_net_hash(net) != model->hash)
        return DLS_E_MISMATCH;
    dlsi_load_reals(model->bytes + model->at[DLSI_PARAMS], net->params, net->param_count);
    net->version++;
    return DLS_OK;
}
DLS_API const dls_real *dls_model_params_in_place(const dls_model *model) {
    const unsigned char *p = model->bytes + model->at[DLSI_PARAMS];
    if (DLS_REAL64 || !dlsi_little_endian() || (uintptr_t)p % sizeof(dls_real) != 0) return NULL;
    return (const dls_real *)(const void *)p;
}
DLS_API const char *dls_model_meta(const dls_model *model, size_t *size) {
    *size = model->length[DLSI_META];
    return model->at[DLSI_META] != 0 ? (const char *)model->bytes + model->at[DLSI_META] : NULL;
}
DLS_API double dls_model_number(const dls_model *model, const char *key, double otherwise) {
    size_t size, i, n = strlen(key);
    const char *text = dls_model_meta(model, &size);
    double v;
    for (i = 0; text != NULL && i + n < size; i++) {
        const char *p = text + i + n + 1;
        if ((i > 0 && text[i - 1] != '\n') || memcmp(text + i, key, n) != 0 || text[i + n] != '=')
            continue;
        return dlsi_number(&p, text + size, &v) ? v : otherwise;
    }
    return otherwise;
}
DLS_API void dls_net_set_meta(dls_net *net, const char *text) { net->meta = text; }

/* ---- Writing ---- */

/* What goes into a file: a network, and perhaps a section that its owner fills. */
typedef void (*dlsi_model_extra_fn)(const void *user, unsigned char *to);
typedef struct dlsi_model_out {
    const dls_net *net;
    size_t extra;
    dlsi_model_extra_fn fill;
    const void *user;
    size_t at[DLSI_SECTIONS + 1], length[DLSI_SECTIONS + 1], size;
    uint32_t sections;
} dlsi_model_out;

DLSI_FN void dlsi_model_measure(dlsi_model_out *o) {
    size_t at;
    int32_t i;
    o->length[DLSI_GRAPH] = 4;
    for (i = 0; i < o->net->nodes; i++)
        o->length[DLSI_GRAPH] += DLSI_NODE_FIXED_BYTES + strlen(o->net->node[i].op->name) +
                                 2 * (size_t)o->net->node[i].inputs;
    o->length[DLSI_PARAMS] = 4 * o->net->param_count;
    o->length[DLSI_META] = o->net->meta != NULL ? dlsi_min_size(strlen(o->net->meta), 65536) : 0;
    o->length[DLSI_TRAIN] = o->extra;
    o->sections = 2u + (o->length[DLSI_META] > 0) + (o->extra > 0);
    at = DLSI_MODEL_HEAD + o->sections * DLSI_MODEL_ROW;
    for (i = 1; i <= DLSI_SECTIONS; i++) {
        if (i > DLSI_PARAMS && o->length[i] == 0) continue;
        o->at[i] = dlsi_round_up(at, 64);
        at = o->at[i] + o->length[i];
    }
    o->size = at;
}
DLSI_FN void dlsi_model_graph(const dls_net *net, unsigned char *p) {
    int32_t i, k;
    dlsi_store32(p, (uint32_t)net->output);
    for (i = 0, p += 4; i < net->nodes; i++) {
        const dlsi_node *n = &net->node[i];
        const size_t length = strlen(n->op->name);
        *p++ = (unsigned char)length;
        memcpy(p, n->op->name, length);
        p += length;
        *p++ = n->inputs;
        for (k = 0; k < n->inputs; k++, p += 2) dlsi_store16(p, (uint32_t)n->in[k]);
        for (k = 0; k < DLS_ATTR_INTS; k++, p += 4) dlsi_store32(p, (uint32_t)n->attr.i[k]);
        for (k = 0; k < DLS_ATTR_REALS; k++, p += 4) dlsi_store32(p, dlsi_float_bits(n->attr.f[k]));
    }
}
DLSI_FN void dlsi_model_fill(const dlsi_model_out *o, unsigned char *p) {
    unsigned char *row = p + DLSI_MODEL_HEAD;
    uint32_t crc;
    int32_t i;
    memset(p, 0, o->size);
    dlsi_model_graph(o->net, p + o->at[DLSI_GRAPH]);
    dlsi_store_reals(p + o->at[DLSI_PARAMS], o->net->params, o->net->param_count);
    if (o->at[DLSI_META] != 0) memcpy(p + o->at[DLSI_META], o->net->meta, o->length[DLSI_META]);
    if (o->at[DLSI_TRAIN] != 0) o->fill(o->user, p + o->at[DLSI_TRAIN]);
    memcpy(p, "DLSHMODL", 8);
    dlsi_store32(p + 8, 1);
    dlsi_store32(p + 12, o->sections);
    dlsi_store64(p + 16, o->size);
    dlsi_store64(p + 24, dls_net_hash(o->net));
    dlsi_store32(p + 32, (uint32_t)o->net->nodes);
    dlsi_store64(p + 40, o->net->param_count);
    for (i = 1; i <= DLSI_SECTIONS; i++) {
        if (o->at[i] == 0) continue;
        dlsi_store32(row, (uint32_t)i);
        dlsi_store32(row + 4, dls_crc32c(0, p + o->at[i], o->length[i]));
        dlsi_store64(row + 8, o->at[i]);
        dlsi_store64(row + 16, o->length[i]);
        row += DLSI_MODEL_ROW;
    }
    crc = dls_crc32c(0, p, 60);
    crc = dls_crc32c(crc, p + DLSI_MODEL_HEAD, o->sections * DLSI_MODEL_ROW);
    dlsi_store32(p + 60, crc);
}
DLSI_FN dls_status dlsi_model_out_open(dlsi_model_out *o, const dls_net *net) {
    memset(o, 0, sizeof *o);
    o->net = net;
    if (net->error.status != DLS_OK) return net->error.status;
    return net->params != NULL && net->nodes > 0 ? DLS_OK : DLS_E_STATE;
}
DLS_API size_t dls_model_size(const dls_net *net) {
    dlsi_model_out o;
    if (dlsi_model_out_open(&o, net) != DLS_OK) return 0;
    dlsi_model_measure(&o);
    return o.size;
}
DLS_API dls_status dls_model_write(const dls_net *net, void *mem, size_t bytes) {
    dlsi_model_out o;
    const dls_status st = dlsi_model_out_open(&o, net);
    if (st != DLS_OK) return st;
    dlsi_model_measure(&o);
    if (mem == NULL || bytes < o.size) return DLS_E_MEMORY;
    dlsi_model_fill(&o, (unsigned char *)mem);
    return DLS_OK;
}
#if DLS_ENABLE_FILES && DLS_ENABLE_HEAP
DLSI_FN dls_status dlsi_model_save(dlsi_model_out *o, const char *path, dls_error *error) {
    unsigned char *mem;
    dls_status st;
    dlsi_model_measure(o);
    mem = (unsigned char *)DLS_MALLOC(o->size);
    if (mem == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory to write '{s}'"), path, 0, 0, 0);
    dlsi_model_fill(o, mem);
    st = dlsi_port_write_file(path, mem, o->size, error);
    DLS_FREE(mem);
    return st;
}
DLS_API dls_status dls_net_save(const dls_net *net, const char *path, dls_error *error) {
    dlsi_model_out o;
    const dls_status st = dlsi_model_out_open(&o, net);
    dlsi_error_clear(error);
    if (st != DLS_OK)
        return dlsi_fail(
            error, st,
            DLSI_MSG("nothing to save in '{s}': the network is broken or has no weights"), path, 0,
            0, 0);
    return dlsi_model_save(&o, path, error);
}
DLS_API dls_status dls_model_read(dls_model *model, const char *path, dls_error *error) {
    void *bytes;
    size_t size;
    dls_status st;
    dlsi_error_clear(error);
    memset(model, 0, sizeof *model);
    st = dlsi_port_read_file(path, &bytes, &size, error);
    if (st != DLS_OK) return st;
    st = dls_model_open(model, bytes, size, error);
    if (st != DLS_OK) {
        if (error != NULL) error->name = path;
        DLS_FREE(bytes);
        memset(model, 0, sizeof *model);
    }
    return st;
}
DLS_API dls_status dls_net_load(dls_net **net, const char *path, dls_error *error) {
    dls_net_desc desc;
    dls_model m;
    size_t size = 0;
    const char *meta;
    dls_status st = dls_model_read(&m, path, error);
    *net = NULL;
    if (st != DLS_OK) return st;
    DLSI_ZERO(desc);
    desc.nodes_max = dlsi_max_i32(m.nodes, 1);
    *net = dls_net_create(&desc);
    if (*net == NULL)
        st = dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for the {0} nodes of '{s}'"), path,
                       m.nodes, 0, 0);
    if (st == DLS_OK) {
        st = dls_model_build(&m, *net, NULL);
        if (st != DLS_OK && error != NULL) *error = (*net)->error;
    }
    if (st == DLS_OK) {
        st = dls_model_params(&m, *net);
        if (st != DLS_OK)
            (void)dlsi_fail(error, st, DLSI_MSG("the weights of '{s}' cannot be loaded"), path, 0,
                            0, 0);
    }
    meta = dls_model_meta(&m, &size);
    if (st == DLS_OK && meta != NULL) {
        (*net)->heap_meta = (char *)DLS_MALLOC(size + 1);
        if ((*net)->heap_meta == NULL) {
            st = dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for the text of '{s}'"), path,
                           0, 0, 0);
        } else {
            memcpy((*net)->heap_meta, meta, size);
            (*net)->heap_meta[size] = '\0';
            (*net)->meta = (*net)->heap_meta;
        }
    }
    if (st != DLS_OK) {
        dls_net_destroy(*net);
        *net = NULL;
    }
    DLS_FREE((void *)(uintptr_t)m.bytes);
    return st;
}
#endif

/* ------------------------------------------------------------------------------------------------
   >>train.impl  deps: config base port tensor kern par op net model train.api      */
#if DLS_ENABLE_TRAIN

/* ---- Losses: rows in parts with fixed borders; each part sums in double, then parts in order
   ---- */

#define DLSI_LOSS_PARTS 32
typedef struct dlsi_loss {
    const dls_cx *cx;
    const dls_loss_desc *desc;
    const dls_target *target;
    const dls_real *z;
    dls_real *grad;
    double scale;
    size_t rows, per_part, rows_per_sample;
    int32_t k;
    dls_loss_sums sums[DLSI_LOSS_PARTS];
    int32_t bad[DLSI_LOSS_PARTS]; /* dls_status */
} dlsi_loss;

DLSI_FN int32_t dlsi_argmax(const dls_real *x, int32_t n) {
    int32_t i, best = 0;
    for (i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}
/* log sum exp(z scale) of a row in double. */
DLSI_FN double dlsi_log_sum(const dls_real *z, int32_t k, double scale) {
    double most = (double)z[0] * scale, sum = 0.0;
    int32_t i;
    for (i = 1; i < k; i++) most = (double)z[i] * scale > most ? (double)z[i] * scale : most;
    for (i = 0; i < k; i++) sum += dlsi_exp((double)z[i] * scale - most);
    return most + dlsi_log(sum);
}
/* Cross-entropy of one row; g (may be NULL) gets its gradient times scale. */
DLSI_FN dls_status dlsi_loss_ce(dlsi_loss *l, size_t row, const dls_real *z, dls_real *g,
                                double scale, dls_loss_sums *sums) {
    const dls_target *t = l->target;
    const size_t sample = row / l->rows_per_sample;
    const int32_t k = l->k, label = t->label[row],
                  second = t->label2 != NULL ? t->label2[sample] : label;
    const double share = t->label2 != NULL ? (double)t->share2[sample] : 0.0,
                 s = (double)l->desc->smoothing;
    double lse, mean = 0.0, weight = 1.0, loss;
    dls_real log_sum;
    int32_t i;
    if (label == -1) {
        if (g != NULL) memset(g, 0, (size_t)k * sizeof *g);
        return DLS_OK;
    }
    if (label < 0 || label >= k || second < 0 || second >= k) return DLS_E_ARG;
    if (l->desc->class_weights != NULL) weight = (double)l->desc->class_weights[label];
    sums->correct += z[label] == DLSI_K(l->cx, row_max, z, (size_t)k) ? 1.0 : 0.0;
    for (i = 0; s > 0.0 && i < k; i++) mean += (double)z[i] / (double)k;
    loss = -(1.0 - s) * ((1.0 - share) * (double)z[label] + share * (double)z[second]) - s * mean;
    if (g != NULL) {
        const dls_real f = (dls_real)(scale * weight);
        DLSI_K(l->cx, softmax, z, g, 1, k, (dls_real)1, &log_sum);
        lse = (double)log_sum;
        DLSI_K(l->cx, axpby, f, g, (dls_real)0, g, (size_t)k);
        for (i = 0; s > 0.0 && i < k; i++) g[i] -= (dls_real)(s / (double)k) * f;
        g[label] -= (dls_real)((1.0 - s) * (1.0 - share)) * f;
        g[second] -= (dls_real)((1.0 - s) * share) * f;
    } else {
        lse = dlsi_log_sum(z, k, 1.0);
    }
    sums->loss += (lse + loss) * weight;
    sums->positions += 1.0;
    return DLS_OK;
}
/* How much of a row's target, with a second label and smoothing, is class i. */
DLSI_FN double dlsi_loss_share(const dlsi_loss *l, size_t row, int32_t i) {
    const dls_target *t = l->target;
    const size_t sample = row / l->rows_per_sample;
    const double share = t->label2 != NULL ? (double)t->share2[sample] : 0.0,
                 s = (double)l->desc->smoothing;
    double of = s / (double)l->k;
    if (i == t->label[row]) of += (1.0 - s) * (1.0 - share);
    if (share > 0.0 && i == t->label2[sample]) of += (1.0 - s) * share;
    return of;
}
/* Cross-entropy against probabilities t. */
DLSI_FN void dlsi_loss_soft(dlsi_loss *l, const dls_real *z, const dls_real *t, dls_real *g,
                            double scale, dls_loss_sums *sums) {
    const double lse = dlsi_log_sum(z, l->k, 1.0);
    double mass = 0.0;
    int32_t i;
    sums->correct += dlsi_argmax(z, l->k) == dlsi_argmax(t, l->k) ? 1.0 : 0.0;
    for (i = 0; i < l->k; i++) {
        mass += (double)t[i];
        sums->loss += (double)t[i] * (lse - (double)z[i]);
    }
    for (i = 0; g != NULL && i < l->k; i++)
        g[i] = (dls_real)((dlsi_exp((double)z[i] - lse) * mass - (double)t[i]) * scale);
    sums->positions += 1.0;
}
DLSI_FN dls_status dlsi_loss_kl(dlsi_loss *l, size_t row, const dls_real *z, const dls_real *t,
                                dls_real *g, double scale, dls_loss_sums *sums) {
    const double temp = l->desc->temperature > 0 ? (double)l->desc->temperature : 1.0,
                 inverse = 1.0 / temp;
    const double alpha =
        l->target->label != NULL && l->desc->alpha > 0 ? (double)l->desc->alpha : 1.0;
    const double zs = dlsi_log_sum(z, l->k, inverse), ts = dlsi_log_sum(t, l->k, inverse);
    const double lse = dlsi_log_sum(z, l->k, 1.0);
    dls_loss_sums ce;
    dls_status st = DLS_OK;
    double kl = 0.0, f = 0.0; /* of cross-entropy's gradient */
    int32_t i;
    DLSI_ZERO(ce);
    for (i = 0; i < l->k; i++) {
        const double lt = (double)t[i] * inverse - ts, lz = (double)z[i] * inverse - zs,
                     p = dlsi_exp(lt);
        kl += p * (lt - lz);
    }
    if (alpha < 1.0) {
        st = dlsi_loss_ce(l, row, z, NULL, 0.0, &ce);
        if (st != DLS_OK) return st;
        f = l->target->label[row] < 0 ? 0.0 : scale * (1.0 - alpha);
        if (f != 0.0 && l->desc->class_weights != NULL)
            f *= (double)l->desc->class_weights[l->target->label[row]];
    }
    for (i = 0; g != NULL && i < l->k; i++) { /* g may be z: an element is read, then written */
        const double p = dlsi_exp((double)t[i] * inverse - ts), zi = (double)z[i],
                     q = dlsi_exp(zi * inverse - zs);
        double d = alpha * temp * (q - p) * scale;
        if (f != 0.0) d += f * (dlsi_exp(zi - lse) - dlsi_loss_share(l, row, i));
        g[i] = (dls_real)d;
    }
    sums->loss += alpha * temp * temp * kl + (1.0 - alpha) * ce.loss;
    sums->correct += ce.correct;
    sums->positions += 1.0;
    return st;
}
DLSI_FN void dlsi_loss_elements(dlsi_loss *l, const dls_real *z, const dls_real *t, dls_real *g,
                                double scale, dls_loss_sums *sums) {
    double sum = 0.0;
    int32_t i;
    for (i = 0; i < l->k; i++) {
        const double a = (double)z[i], b = (double)t[i];
        if (l->desc->kind == DLS_LOSS_MSE) {
            sum += (a - b) * (a - b);
            if (g != NULL) g[i] = (dls_real)(2.0 * (a - b) * scale / (double)l->k);
        } else {
            const double e = dlsi_exp(a < 0 ? a : -a), p = a < 0 ? e / (1.0 + e) : 1.0 / (1.0 + e);
            sum += (a > 0 ? a : 0.0) - a * b + dlsi_log(1.0 + e);
            if (g != NULL) g[i] = (dls_real)((p - b) * scale / (double)l->k);
        }
    }
    sums->loss += sum / (double)l->k;
    sums->positions += 1.0;
}
DLSI_FN void dlsi_loss_task(void *arg, int32_t part, int32_t thread) {
    dlsi_loss *l = (dlsi_loss *)arg;
    const size_t k = (size_t)l->k, first = (size_t)part * l->per_part;
    const size_t end = dlsi_min_size(first + l->per_part, l->rows);
    size_t i;
    (void)thread;
    for (i = first; i < end && l->bad[part] == 0; i++) {
        const dls_real *z = l->z + i * k,
                       *t = l->target->values != NULL ? l->target->values + i * k : NULL;
        dls_real *g = l->grad != NULL ? l->grad + i * k : NULL;
        dls_status st = DLS_OK;
        if (l->desc->kind == DLS_LOSS_CROSS_ENTROPY && l->target->label != NULL)
            st = dlsi_loss_ce(l, i, z, g, l->scale, &l->sums[part]);
        else if (l->desc->kind == DLS_LOSS_CROSS_ENTROPY)
            dlsi_loss_soft(l, z, t, g, l->scale, &l->sums[part]);
        else if (l->desc->kind == DLS_LOSS_KL)
            st = dlsi_loss_kl(l, i, z, t, g, l->scale, &l->sums[part]);
        else
            dlsi_loss_elements(l, z, t, g, l->scale, &l->sums[part]);
        l->bad[part] = (int32_t)st;
    }
}
DLS_API dls_status dls_loss(const dls_cx *cx, const dls_loss_desc *desc, int32_t n, dls_shape shape,
                            const dls_real *z, const dls_target *target, double scale,
                            dls_real *grad, dls_loss_sums *sums) {
    const bool labels = desc->kind == DLS_LOSS_CROSS_ENTROPY && target->label != NULL;
    dls_loss_sums all;
    dlsi_loss l;
    int32_t i, parts;
    DLSI_ZERO(l);
    DLSI_ZERO(all);
    if (n < 1 || dls_shape_count(shape) == 0 || (!labels && target->values == NULL) ||
        (target->label2 != NULL && target->share2 == NULL) ||
        (unsigned)desc->kind > (unsigned)DLS_LOSS_KL)
        return DLS_E_ARG;
    l.cx = cx;
    l.desc = desc;
    l.target = target;
    l.z = z;
    l.grad = grad;
    l.scale = scale;
    l.k = shape.c;
    l.rows_per_sample = (size_t)shape.h * (size_t)shape.w;
    l.rows = (size_t)n * l.rows_per_sample;
    l.per_part = (l.rows + DLSI_LOSS_PARTS - 1) / DLSI_LOSS_PARTS;
    parts = (int32_t)((l.rows + l.per_part - 1) / l.per_part);
    dls_parallel_for(cx->pool, parts, dlsi_loss_task, &l);
    for (i = 0; i < parts; i++) {
        if (l.bad[i] != 0) return (dls_status)l.bad[i];
        all.loss += l.sums[i].loss;
        all.positions += l.sums[i].positions;
        all.correct += l.sums[i].correct;
    }
    if (!dlsi_finite(all.loss)) return DLS_E_NUMBER;
    sums->loss += all.loss;
    sums->positions += all.positions;
    sums->correct += all.correct;
    return DLS_OK;
}

/* ---- Optimisers ---- */

/* The desc with its kind's defaults filled in. */
DLSI_FN dls_optim_desc dlsi_optim(const dls_optim_desc *desc) {
    dls_optim_desc d = *desc;
    const bool adam = d.kind == DLS_OPTIM_ADAM || d.kind == DLS_OPTIM_ADAMW;
    if (d.lr == 0) d.lr = adam ? 1e-3f : d.kind == DLS_OPTIM_LION ? 1e-4f : 1e-2f;
    if (d.weight_decay == 0 && d.kind == DLS_OPTIM_ADAMW) d.weight_decay = 0.01f;
    if (d.weight_decay < 0) d.weight_decay = 0;
    if (d.beta1 == 0) d.beta1 = 0.9f;
    if (d.beta2 == 0) d.beta2 = adam ? 0.999f : 0.99f;
    if (d.eps == 0) d.eps = 1e-8f;
    if (d.step_every < 1) d.step_every = 1000;
    if (d.gamma == 0) d.gamma = 0.1f;
    return d;
}
DLS_API double dls_optim_lr(const dls_optim_desc *desc, int64_t step) {
    const dls_optim_desc d = dlsi_optim(desc);
    const double lr = (double)d.lr, least = (double)d.lr_min;
    const int64_t after = step - d.warmup_steps, span = d.total_steps - d.warmup_steps;
    if (step < d.warmup_steps) return lr * (double)(step + 1) / (double)d.warmup_steps;
    if (d.schedule == DLS_SCHEDULE_STEP)
        return lr * dlsi_power((double)d.gamma, after / d.step_every);
    if (d.schedule == DLS_SCHEDULE_COSINE && span > 0) {
        const double done = after >= span ? 1.0 : (double)after / (double)span;
        return least + 0.5 * (lr - least) * (1.0 + dlsi_cos(3.14159265358979323846 * done));
    }
    return lr;
}
DLS_API int32_t dls_optim_slots(const dls_optim_desc *desc) {
    if (desc->kind == DLS_OPTIM_ADAM || desc->kind == DLS_OPTIM_ADAMW) return 2;
    if (desc->kind == DLS_OPTIM_RMSPROP) return desc->momentum > 0 ? 2 : 1;
    return desc->kind == DLS_OPTIM_LION || desc->momentum > 0 ? 1 : 0;
}
/* One step's numbers, the same for every weight. */
typedef struct dlsi_update {
    dls_optim_desc d;
    dlsi_adam p;
    dls_real scale; /* of gradients, from clipping */
} dlsi_update;
DLSI_FN void dlsi_update_begin(const dls_optim_desc *desc, int64_t step, dlsi_update *u) {
    u->d = dlsi_optim(desc);
    u->scale = (dls_real)1;
    u->p.lr = (dls_real)dls_optim_lr(desc, step);
    u->p.beta1 = (dls_real)u->d.beta1;
    u->p.beta2 = (dls_real)u->d.beta2;
    u->p.eps = (dls_real)u->d.eps;
    u->p.decay = (dls_real)u->d.weight_decay;
    u->p.decoupled = u->d.kind == DLS_OPTIM_ADAMW;
    u->p.correct1 = (dls_real)(1.0 / (1.0 - dlsi_power((double)u->d.beta1, step + 1)));
    u->p.correct2 = (dls_real)(1.0 / dlsi_sqrt(1.0 - dlsi_power((double)u->d.beta2, step + 1)));
}
/* Weights w with gradients g and state s0, s1, count of one parameter tensor with these flags. */
DLSI_FN void dlsi_update_run(const dls_cx *cx, const dlsi_update *u, unsigned flags, float share,
                             dls_real *w, const dls_real *g, dls_real *s0, dls_real *s1,
                             size_t count) {
    dlsi_adam p = u->p;
    if ((flags & DLS_PARAM_STATISTIC) != 0) {
        DLSI_K(cx, axpby, (dls_real)share, g, (dls_real)1 - (dls_real)share, w, count);
        return;
    }
    if ((flags & DLS_PARAM_NO_DECAY) != 0 && !u->d.decay_all) p.decay = 0;
    switch (u->d.kind) {
    case DLS_OPTIM_SGD:
        DLSI_K(cx, sgd, w, g, s0, count, p.lr, (dls_real)u->d.momentum, p.decay, u->d.nesterov,
               u->scale);
        break;
    case DLS_OPTIM_ADAM:
    case DLS_OPTIM_ADAMW: DLSI_K(cx, adam, w, g, s0, s1, count, &p, u->scale); break;
    case DLS_OPTIM_RMSPROP:
        DLSI_K(cx, rmsprop, w, g, s0, s1, count, &p, u->d.momentum, u->scale);
        break;
    case DLS_OPTIM_LION: DLSI_K(cx, lion, w, g, s0, count, &p, u->scale); break;
    }
}

/* ---- Trainer ---- */

typedef struct dlsi_segment { /* a parameter tensor */
    size_t at, count;
    unsigned flags;
    float share;
} dlsi_segment;

#define DLSI_EXACT_BLOCK 256 /* gradients that share a scale */
#define DLSI_EXACT_EXTRA 16  /* numbers summed beside them: loss, positions, correct */
#define DLSI_EXACT_LEAST 56  /* scales below are not used: 2^(56 - 126) */
#define DLSI_EXACT_MARGIN 4  /* bits of room that a predicted scale leaves */
#define DLSI_EXACT_BELOW 4   /* bits that it may lie below the greatest block's */
#define DLSI_EXACT_FALL 16   /* steps after which it may fall by one */

struct dls_train {
    dls_net *net;
    dls_exec *exec;
    dls_train_desc desc;
    dlsi_segment *segment;
    int32_t segments;
    dls_real *slot[2];
    int64_t step;
    dlsi_update update;
    bool immediate;          /* weights are updated while backward runs */
    int32_t *label, *label2; /* of one part */
    float *share2;
    dls_real *values;
    double *norm_part;
    /* exact mode */
    int32_t *sums;
    uint8_t *predicted, *needed;
    dls_real extra[DLSI_EXACT_EXTRA];
    size_t sums_count, scales_count;
    int32_t n, begun, redone; /* of the present step; begun: shards added + 1 */
    void *mem_exec;
};

/* The desc with defaults. */
DLSI_FN dls_train_desc dlsi_train_desc(const dls_train_desc *desc) {
    dls_train_desc d;
    DLSI_ZERO(d);
    if (desc != NULL) d = *desc;
    d.batch = dlsi_or(d.batch, 64);
    d.accumulate = dlsi_or(d.accumulate, 1);
    return d;
}
DLSI_FN dls_status dlsi_train_check(dls_net *net, const dls_train_desc *d) {
    dlsi_error_clear(&net->plan_error);
    if (net->error.status != DLS_OK) return net->error.status;
    if (d->batch < 1 || d->accumulate < 1 || d->accumulate > d->batch || d->shards < 0 ||
        d->shards > d->batch || d->shards > 256 || (d->shards > 0 && d->accumulate > 1))
        return dlsi_fail(&net->plan_error, DLS_E_ARG,
                         DLSI_MSG("batch {0}, accumulate {1}, shards {2}: parts and shards must "
                                  "not exceed the batch, shards 256, and not both"),
                         NULL, d->batch, d->accumulate, d->shards);
    if ((unsigned)d->optim.kind > (unsigned)DLS_OPTIM_LION ||
        (unsigned)d->loss.kind > (unsigned)DLS_LOSS_KL)
        return dlsi_fail(&net->plan_error, DLS_E_ARG, DLSI_MSG("no optimiser {0} or loss {1}"),
                         NULL, (int32_t)d->optim.kind, (int32_t)d->loss.kind, 0);
    return DLS_OK;
}
/* Samples that go through the executor at once. */
DLSI_FN int32_t dlsi_train_part(const dls_train_desc *d) {
    return dlsi_ceil_div(d->batch, d->shards > 0 ? d->shards : d->accumulate);
}
DLSI_FN void dlsi_train_exec_desc(const dls_train_desc *d, dls_exec_desc *e) {
    memset(e, 0, sizeof *e);
    e->batch = dlsi_train_part(d);
    e->isa = d->isa;
    e->strict = d->strict;
    e->train = true;
    e->pool = d->pool;
}
DLSI_FN int32_t dlsi_train_tensors(const dls_net *net) {
    int32_t i, n = 0;
    for (i = 0; i < net->nodes; i++) n += net->node[i].params;
    return n;
}
#define DLSI_NORM_PART 4096
DLSI_FN dls_train *dlsi_train_layout(dlsi_layout *l, dls_net *net, const dls_train_desc *d,
                                     size_t exec_bytes) {
    const size_t params = net->param_count,
                 rows = (size_t)dlsi_train_part(d) *
                        dlsi_count(dls_net_shape(net, dls_net_output_of(net)));
    const size_t labels = rows / (size_t)dls_net_shape(net, dls_net_output_of(net)).c;
    const size_t tensors = (size_t)dlsi_train_tensors(net), exact = d->shards > 0 ? 1 : 0;
    const int32_t slots = dls_optim_slots(&d->optim);
    const size_t blocks = (params + DLSI_EXACT_BLOCK - 1) / DLSI_EXACT_BLOCK + 1;
    dls_train *t = (dls_train *)dlsi_layout_take(l, sizeof *t);
    dlsi_segment *segment = (dlsi_segment *)dlsi_layout_take(l, tensors * sizeof *segment);
    dls_real *slot0 = (dls_real *)dlsi_layout_take(l, slots > 0 ? dlsi_reals(params) : 0);
    dls_real *slot1 = (dls_real *)dlsi_layout_take(l, slots > 1 ? dlsi_reals(params) : 0);
    int32_t *label = (int32_t *)dlsi_layout_take(l, 2 * labels * sizeof(int32_t));
    float *share2 = (float *)dlsi_layout_take(l, labels * sizeof(float));
    dls_real *values = (dls_real *)dlsi_layout_take(l, dlsi_reals(rows));
    double *norm = (double *)dlsi_layout_take(l, (params / DLSI_NORM_PART + 1) * sizeof(double));
    int32_t *sums =
        (int32_t *)dlsi_layout_take(l, exact * (params + DLSI_EXACT_EXTRA) * sizeof(int32_t));
    uint8_t *scales = (uint8_t *)dlsi_layout_take(l, exact * (2 * blocks + 1)); /* 1: the job's */
    void *exec = dlsi_layout_take(l, exec_bytes);
    if (t == NULL) return NULL;
    memset(t, 0, sizeof *t);
    t->net = net;
    t->desc = *d;
    t->segment = segment;
    t->slot[0] = slots > 0 ? slot0 : NULL;
    t->slot[1] = slots > 1 ? slot1 : NULL;
    t->label = label;
    t->label2 = label + labels;
    t->share2 = share2;
    t->values = values;
    t->norm_part = norm;
    t->sums = sums;
    t->predicted = scales;
    t->needed = scales + blocks;
    t->sums_count = params + DLSI_EXACT_EXTRA;
    t->scales_count = blocks;
    t->mem_exec = exec;
    return t;
}
DLS_API size_t dls_train_size(dls_net *net, const dls_train_desc *desc) {
    const dls_train_desc d = dlsi_train_desc(desc);
    dlsi_layout l = dlsi_layout_at(NULL);
    dls_exec_desc e;
    size_t exec;
    if (dlsi_train_check(net, &d) != DLS_OK) return 0;
    dlsi_train_exec_desc(&d, &e);
    exec = dls_exec_size(net, &e);
    if (exec == 0) return 0;
    (void)dlsi_train_layout(&l, net, &d, exec);
    return l.used == SIZE_MAX ? 0 : dlsi_layout_total(&l);
}
DLSI_FN void dlsi_train_segments(dls_train *t) {
    dls_op_spec spec;
    int32_t i, p;
    for (i = 0; i < t->net->nodes; i++) {
        dlsi_net_spec(t->net, i, NULL, 1, false, &spec);
        for (p = 0; p < t->net->node[i].params; p++) {
            dlsi_segment *s = &t->segment[t->segments++];
            s->at = dlsi_param_at(&t->net->node[i], p);
            s->count = t->net->node[i].param_count[p];
            s->flags = spec.param[p].flags;
            s->share = spec.param[p].scale;
        }
    }
}
DLSI_FN void dlsi_train_ready(void *user, dls_real *dw, size_t count);
DLS_API dls_status dls_train_init(dls_train **train, dls_net *net, const dls_train_desc *desc,
                                  void *mem, size_t bytes) {
    const dls_train_desc d = dlsi_train_desc(desc);
    dlsi_layout l = dlsi_layout_at(mem);
    dls_exec_desc e;
    dls_train *t;
    size_t exec;
    dls_status st = dlsi_train_check(net, &d);
    *train = NULL;
    if (st != DLS_OK) return st;
    st = dlsi_net_need_params(net, true);
    if (st != DLS_OK) return st;
    dlsi_train_exec_desc(&d, &e);
    exec = dls_exec_size(net, &e);
    if (exec == 0) return net->plan_error.status;
    if (mem == NULL || bytes < dls_train_size(net, desc)) return DLS_E_MEMORY;
    t = dlsi_train_layout(&l, net, &d, exec);
    st = dls_exec_init(&t->exec, net, &e, t->mem_exec, exec);
    if (st != DLS_OK) return st;
    if (t->slot[0] != NULL) memset(t->slot[0], 0, dlsi_reals(net->param_count));
    if (t->slot[1] != NULL) memset(t->slot[1], 0, dlsi_reals(net->param_count));
    if (d.shards > 0) memset(t->predicted, DLSI_EXACT_LEAST, t->scales_count);
    dlsi_train_segments(t);
    t->immediate = d.accumulate == 1 && d.shards == 0 && !(d.optim.clip_norm > 0);
    if (t->immediate) {
        t->exec->ready = dlsi_train_ready;
        t->exec->ready_user = t;
    }
    *train = t;
    return DLS_OK;
}
#if DLS_ENABLE_HEAP
DLS_API dls_train *dls_train_create(dls_net *net, const dls_train_desc *desc) {
    const size_t bytes = dls_train_size(net, desc);
    void *mem = dlsi_heap_take(bytes);
    dls_train *train = NULL;
    if (mem == NULL) {
        if (bytes != 0)
            (void)dlsi_fail(&net->plan_error, DLS_E_MEMORY, DLSI_MSG("no memory for the trainer"),
                            NULL, 0, 0, 0);
        return NULL;
    }
    if (dls_train_init(&train, net, desc, mem, bytes) != DLS_OK) dlsi_heap_give(mem);
    return train;
}
DLS_API void dls_train_destroy(dls_train *train) { dlsi_heap_give(train); }
#endif
DLS_API int64_t dls_train_steps(const dls_train *train) { return train->step; }
DLS_API dls_exec *dls_train_exec(dls_train *train) { return train->exec; }
DLS_API uint64_t dls_train_hash(const dls_train *train) {
    uint64_t hash = dlsi_hash_word(0x5368617264u, (uint64_t)train->step);
    int32_t i;
    hash = dls_hash64_reals(hash, train->net->params, train->net->param_count);
    for (i = 0; i < 2; i++)
        if (train->slot[i] != NULL)
            hash = dls_hash64_reals(hash, train->slot[i], train->net->param_count);
    return hash;
}

/* The segment that holds element `at`. */
DLSI_FN const dlsi_segment *dlsi_train_segment(const dls_train *t, size_t at) {
    int32_t low = 0, high = t->segments - 1;
    while (low < high) {
        const int32_t mid = (low + high + 1) / 2;
        if (t->segment[mid].at <= at)
            low = mid;
        else
            high = mid - 1;
    }
    return &t->segment[low];
}
/* Updates elements [at, at + count), which lie in one segment. */
DLSI_FN void dlsi_train_update(const dls_train *t, const dlsi_segment *s, size_t at, size_t count) {
    dlsi_update_run(&t->exec->cx, &t->update, s->flags, s->share, t->net->params + at,
                    t->exec->grads + at, t->slot[0] != NULL ? t->slot[0] + at : NULL,
                    t->slot[1] != NULL ? t->slot[1] + at : NULL, count);
}
/* Called by ops as their weights' gradients become final. */
DLSI_FN void dlsi_train_ready(void *user, dls_real *dw, size_t count) {
    const dls_train *t = (const dls_train *)user;
    const size_t at = (size_t)(dw - t->exec->grads);
    dlsi_train_update(t, dlsi_train_segment(t, at), at, count);
}
DLSI_FN void dlsi_train_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dls_train *t = (const dls_train *)arg;
    const size_t end = first + count;
    const dlsi_segment *s = dlsi_train_segment(t, first);
    (void)thread;
    for (; s < t->segment + t->segments && s->at < end; s++) {
        const size_t from = dlsi_max_size(first, s->at), to = dlsi_min_size(end, s->at + s->count);
        if (to > from) dlsi_train_update(t, s, from, to - from);
    }
}
/* Sum of squares of a part of the gradients, statistics left out. */
DLSI_FN void dlsi_train_norm_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dls_train *t = (const dls_train *)arg;
    size_t part, end;
    (void)thread;
    for (part = first; part < first + count; part++) {
        const size_t from = part * DLSI_NORM_PART;
        const dlsi_segment *s = dlsi_train_segment(t, from);
        double sum = 0.0;
        end = dlsi_min_size(from + DLSI_NORM_PART, t->net->param_count);
        for (; s < t->segment + t->segments && s->at < end; s++) {
            const size_t a = dlsi_max_size(from, s->at), b = dlsi_min_size(end, s->at + s->count);
            if (b > a && (s->flags & DLS_PARAM_STATISTIC) == 0)
                sum += (double)DLSI_K(&t->exec->cx, dot, t->exec->grads + a, t->exec->grads + a,
                                      b - a);
        }
        t->norm_part[part] = sum;
    }
}
/* Clips, checks and applies gradients that are all there. */
DLSI_FN dls_status dlsi_train_apply(dls_train *t, dls_step_stats *stats) {
    const size_t parts = (t->net->param_count + DLSI_NORM_PART - 1) / DLSI_NORM_PART;
    const double most = (double)t->desc.optim.clip_norm;
    double sum = 0.0;
    size_t i;
    if (most > 0.0) {
        dlsi_par_spans(&t->exec->cx, parts, 4, dlsi_train_norm_span, t);
        for (i = 0; i < parts; i++) sum += t->norm_part[i];
        if (!dlsi_finite(sum)) return DLS_E_NUMBER;
        stats->grad_norm = dlsi_sqrt(sum);
        if (stats->grad_norm > most) t->update.scale = (dls_real)(most / stats->grad_norm);
    }
    dlsi_par_spans(&t->exec->cx, t->net->param_count, DLSI_GRAIN, dlsi_train_span, t);
    return DLS_OK;
}
DLSI_FN void dlsi_train_stats(const dls_loss_sums *sums, dls_step_stats *stats) {
    if (!(sums->positions > 0.0)) return;
    stats->loss = sums->loss / sums->positions;
    stats->accuracy = sums->correct / sums->positions;
}
/* Where a step's samples come from: packed memory, or a data set by index. */
typedef struct dlsi_source {
    const void *x;
    const dls_target *target;
    const dls_data *data;
    const dls_augment *augment;
    const int32_t *index;
} dlsi_source;
DLSI_FN size_t dlsi_train_x_bytes(const dls_train *t) {
    const dls_val v = dls_exec_input_val(t->exec, 0);
    return dlsi_count(dls_net_shape(t->net, v)) * dls_dtype_bytes((dls_dtype)t->net->node[v].dtype);
}
DLSI_FN size_t dlsi_train_rows(const dls_train *t) { /* label positions of a sample */
    const dls_shape y = dls_net_shape(t->net, dls_net_output_of(t->net));
    return (size_t)y.h * (size_t)y.w;
}
/* Samples [first, first + n) to the executor's input, and their targets. */
DLSI_FN dls_status dlsi_train_load(dls_train *t, const dlsi_source *src, int32_t first, int32_t n,
                                   dls_target *target) {
    void *x = dls_exec_input(t->exec, 0);
    const size_t rows = dlsi_train_rows(t), at = (size_t)first,
                 c = (size_t)dls_net_shape(t->net, dls_net_output_of(t->net)).c;
    const bool mix = src->augment != NULL && src->augment->mixup > 0;
    dls_status st;
    memset(target, 0, sizeof *target);
    if (src->data == NULL) {
        memcpy(x, (const char *)src->x + at * dlsi_train_x_bytes(t),
               (size_t)n * dlsi_train_x_bytes(t));
        *target = *src->target;
        if (target->label != NULL) target->label += at * rows;
        if (target->label2 != NULL) target->label2 += at;
        if (target->share2 != NULL) target->share2 += at;
        if (target->values != NULL) target->values += at * rows * c;
        return DLS_OK;
    }
    st = dls_data_fetch(src->data, src->augment, dlsi_seed(t->desc.seed, (uint64_t)t->step),
                        src->index + first, n, x, src->data->label != NULL ? t->label : NULL,
                        mix ? t->label2 : NULL, mix ? t->share2 : NULL,
                        src->data->values != NULL ? t->values : NULL);
    target->label = src->data->label != NULL ? t->label : NULL;
    target->values = src->data->values != NULL ? t->values : NULL;
    target->label2 = mix ? t->label2 : NULL;
    target->share2 = mix ? t->share2 : NULL;
    return st;
}
/* Forward, loss, backward of samples [first, first + n) of a step of `total`. */
DLSI_FN dls_status dlsi_train_part_run(dls_train *t, const dlsi_source *src, int32_t first,
                                       int32_t n, int32_t total, double positions, bool add,
                                       dls_loss_sums *sums) {
    dls_exec *e = t->exec;
    dls_target target;
    dls_status st = dlsi_train_load(t, src, first, n, &target);
    if (st == DLS_OK)
        st = dls_exec_forward_train(e, n, dlsi_seed(t->desc.seed, (uint64_t)t->step), first, total);
    if (st == DLS_OK)
        st = dls_loss(&e->cx, &t->desc.loss, n, dls_net_shape(t->net, e->output),
                      dls_exec_output(e), &target, 1.0 / positions, dls_exec_output_grad(e), sums);
    return st == DLS_OK ? dls_exec_backward(e, add) : st;
}
DLSI_FN dls_status dlsi_train_source_check(const dls_train *t, const dlsi_source *src, int32_t n) {
    const dls_val in = dls_exec_input_val(t->exec, 0);
    dls_error *error = &t->exec->error;
    dlsi_error_clear(error);
    if (n < 1 || n > t->desc.batch)
        return dlsi_fail(error, DLS_E_ARG,
                         DLSI_MSG("{0} samples in a step; the trainer is for 1 to {1}"), NULL, n,
                         t->desc.batch, 0);
    if (in < 0 || dls_exec_output_grad(t->exec) == NULL)
        return dlsi_fail(error, DLS_E_STATE,
                         DLSI_MSG("the network has no input or no weights before its output"), NULL,
                         0, 0, 0);
    if (src->data != NULL &&
        (dlsi_count(src->data->shape) != dlsi_count(dls_net_shape(t->net, in)) ||
         (src->data->dtype == DLS_I32) != (t->net->node[in].dtype == (uint8_t)DLS_I32)))
        return dlsi_fail(error, DLS_E_SHAPE,
                         DLSI_MSG("samples of {0} elements do not fit the network's input of {1}, "
                                  "or one is integers"),
                         NULL, (int32_t)dlsi_count(src->data->shape),
                         (int32_t)dlsi_count(dls_net_shape(t->net, in)), 0);
    if (src->data != NULL && src->data->values != NULL &&
        (size_t)src->data->values_each != dlsi_count(dls_net_shape(t->net, t->exec->output)))
        return dlsi_fail(error, DLS_E_SHAPE,
                         DLSI_MSG("{0} target values a sample do not fit the output of {1}"), NULL,
                         src->data->values_each,
                         (int32_t)dlsi_count(dls_net_shape(t->net, t->exec->output)), 0);
    if (src->data != NULL && src->data->label != NULL &&
        src->data->classes > dls_net_shape(t->net, t->exec->output).c)
        return dlsi_fail(error, DLS_E_SHAPE,
                         DLSI_MSG("{0} classes in the data, {1} outputs in the network"), NULL,
                         src->data->classes, dls_net_shape(t->net, t->exec->output).c, 0);
    if (src->data != NULL && src->data->label != NULL && dlsi_train_rows(t) != 1)
        return dlsi_fail(error, DLS_E_SHAPE,
                         DLSI_MSG("one label a sample, but the output has {0} positions"), NULL,
                         (int32_t)dlsi_train_rows(t), 0, 0);
    return DLS_OK;
}
/* Positions that count in a step of n samples, at least 1: cross-entropy ignores label -1. */
DLSI_FN double dlsi_train_positions(const dls_train *t, const dlsi_source *src, int32_t n) {
    const size_t rows = (size_t)n * dlsi_train_rows(t);
    const int32_t *label = src->data != NULL ? src->data->label : src->target->label;
    size_t i, ignored = 0;
    if (t->desc.loss.kind != DLS_LOSS_CROSS_ENTROPY) label = NULL;
    for (i = 0; label != NULL && i < rows; i++) {
        const int32_t at = src->data != NULL ? src->index[i] : (int32_t)i;
        if (src->data != NULL && (at < 0 || at >= src->data->count)) continue; /* refused later */
        if (label[at] == -1) ignored++;
    }
    return (double)(ignored < rows ? rows - ignored : 1);
}
DLSI_FN dls_status dlsi_train_exact_step(dls_train *t, const dlsi_source *src, int32_t n,
                                         dls_step_stats *stats);
DLSI_FN dls_status dlsi_train_run(dls_train *t, const dlsi_source *src, int32_t n,
                                  dls_step_stats *stats) {
    const int32_t parts = dlsi_min_i32(n, t->desc.accumulate);
    double positions;
    dls_loss_sums sums;
    dls_status st = dlsi_train_source_check(t, src, n);
    int32_t p;
    if (st != DLS_OK) return st;
    if (t->desc.shards > 0) return dlsi_train_exact_step(t, src, n, stats);
    memset(stats, 0, sizeof *stats);
    DLSI_ZERO(sums);
    positions = dlsi_train_positions(t, src, n);
    dlsi_update_begin(&t->desc.optim, t->step, &t->update);
    for (p = 0; p < parts && st == DLS_OK; p++) {
        const int32_t first = (int32_t)((int64_t)n * p / parts),
                      end = (int32_t)((int64_t)n * (p + 1) / parts);
        st = dlsi_train_part_run(t, src, first, end - first, n, positions, p > 0, &sums);
    }
    if (st != DLS_OK)
        return dlsi_fail(
            &t->exec->error, st,
            DLSI_MSG("the step failed; are labels below the outputs, and inputs finite?"), NULL, 0,
            0, 0);
    dlsi_train_stats(&sums, stats);
    if (!t->immediate) st = dlsi_train_apply(t, stats);
    if (st != DLS_OK)
        return dlsi_fail(&t->exec->error, st,
                         DLSI_MSG("gradients are not finite: lower the learning rate"), NULL, 0, 0,
                         0);
    t->step++;
    dls_net_touch(t->net);
    return DLS_OK;
}
DLS_API dls_status dls_train_step(dls_train *train, const void *x, const dls_target *target,
                                  int32_t n, dls_step_stats *stats) {
    dlsi_source src;
    dls_step_stats own;
    DLSI_ZERO(src);
    src.x = x;
    src.target = target;
    if (x == NULL || target == NULL) return DLS_E_ARG;
    return dlsi_train_run(train, &src, n, stats != NULL ? stats : &own);
}
DLS_API dls_status dls_train_step_data(dls_train *train, const dls_data *data,
                                       const dls_augment *augment, const int32_t *index, int32_t n,
                                       dls_step_stats *stats) {
    dlsi_source src;
    dls_step_stats own;
    DLSI_ZERO(src);
    src.data = data;
    src.augment = augment;
    src.index = index;
    if (data == NULL || index == NULL) return DLS_E_ARG;
    return dlsi_train_run(train, &src, n, stats != NULL ? stats : &own);
}

/* ---- Exact mode. A gradient x of a block with scale code p (|x| < 2^(p - 126)) is the integer
   round(x 2^(30 - c + 126 - p)), c = ceil(log2 shards), so that sums of all shards stay below 2^30:
   integer sums do not depend on their order. p is predicted from the last step; each shard reports
   the code it needed, and a step whose prediction was too small is done again with the needed
   codes. ---- */

DLSI_FN dls_real dlsi_exact_scale(const dls_train *t, unsigned code, bool inverse) {
    int32_t c = 0, e;
    while ((1 << c) < t->desc.shards) c++;
    e = 30 - c + 126 - (int32_t)code;
    return (dls_real)dlsi_scale2(1.0, inverse ? -e : e);
}
/* Least code p with |x| < 2^(p - 126): the biased exponent of a float. 255: not finite. */
DLSI_FN unsigned dlsi_exact_code(dls_real most) {
    const unsigned code = dlsi_float_bits((float)most) >> 23 & 255u;
    return code;
}
typedef struct dlsi_exact_job {
    dls_train *t;
    bool first;
} dlsi_exact_job;
DLSI_FN void dlsi_exact_block(dls_train *t, size_t block, const dls_real *x, size_t n, bool first) {
    const unsigned code = dlsi_exact_code(DLSI_K(&t->exec->cx, max_abs, x, n));
    if (first || code > t->needed[block]) t->needed[block] = (uint8_t)code;
    DLSI_K(&t->exec->cx, exact_add, t->sums + block * DLSI_EXACT_BLOCK, x, n,
           dlsi_exact_scale(t, t->predicted[block], false), first);
}
DLSI_FN void dlsi_exact_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dlsi_exact_job *job = (const dlsi_exact_job *)arg;
    dls_train *t = job->t;
    size_t b;
    (void)thread;
    for (b = first; b < first + count; b++)
        dlsi_exact_block(
            t, b, t->exec->grads + b * DLSI_EXACT_BLOCK,
            dlsi_min_size(DLSI_EXACT_BLOCK, t->net->param_count - b * DLSI_EXACT_BLOCK),
            job->first);
}
DLS_API dls_status dls_train_begin(dls_train *train, int32_t n) {
    dlsi_error_clear(&train->exec->error);
    if (train->desc.shards == 0)
        return dlsi_fail(&train->exec->error, DLS_E_STATE,
                         DLSI_MSG("the trainer has no shards: set train_desc.shards"), NULL, 0, 0,
                         0);
    if (n < 1 || n > train->desc.batch)
        return dlsi_fail(&train->exec->error, DLS_E_ARG,
                         DLSI_MSG("{0} samples in a step; the trainer is for 1 to {1}"), NULL, n,
                         train->desc.batch, 0);
    train->n = n;
    train->begun = 1;
    memset(train->sums, 0, train->sums_count * sizeof *train->sums);
    memset(train->needed, 0, train->scales_count);
    dlsi_update_begin(&train->desc.optim, train->step, &train->update);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_train_shard(dls_train *t, const dlsi_source *src, int32_t shard) {
    const int32_t v = t->desc.shards, first = (int32_t)((int64_t)t->n * shard / v);
    const int32_t count = (int32_t)((int64_t)t->n * (shard + 1) / v) - first;
    const size_t blocks = t->scales_count - 1;
    dlsi_exact_job job;
    dls_loss_sums sums;
    dls_status st;
    DLSI_ZERO(sums);
    if (shard < 0 || shard >= v || t->begun == 0) return DLS_E_ARG;
    if (count == 0) return DLS_OK;
    st = dlsi_train_part_run(t, src, first, count, t->n, dlsi_train_positions(t, src, t->n), false,
                             &sums);
    if (st != DLS_OK) return st;
    job.t = t;
    job.first = t->begun++ == 1;
    dlsi_par_spans(&t->exec->cx, blocks, 32, dlsi_exact_span, &job);
    memset(t->extra, 0, sizeof t->extra);
    t->extra[0] = (dls_real)sums.loss;
    t->extra[1] = (dls_real)sums.positions;
    t->extra[2] = (dls_real)sums.correct;
    {
        const unsigned code =
            dlsi_exact_code(DLSI_K(&t->exec->cx, max_abs, t->extra, DLSI_EXACT_EXTRA));
        if (code > t->needed[blocks]) t->needed[blocks] = (uint8_t)code;
        DLSI_K(&t->exec->cx, exact_add, t->sums + t->net->param_count, t->extra, DLSI_EXACT_EXTRA,
               dlsi_exact_scale(t, t->predicted[blocks], false), job.first);
    }
    return DLS_OK;
}
DLS_API dls_status dls_train_shard_data(dls_train *train, const dls_data *data,
                                        const dls_augment *augment, const int32_t *index,
                                        int32_t shard) {
    dlsi_source src;
    dls_status st;
    DLSI_ZERO(src);
    src.data = data;
    src.augment = augment;
    src.index = index;
    st = dlsi_train_source_check(train, &src, train->n);
    if (st == DLS_OK) st = dlsi_train_shard(train, &src, shard);
    return st == DLS_OK ? st
                        : dlsi_fail(&train->exec->error, st, DLSI_MSG("shard {0} failed"), NULL,
                                    shard, 0, 0);
}
DLS_API void dls_train_exact(dls_train *train, dls_exact *exact) {
    exact->sums = train->sums;
    exact->sums_count = train->sums_count;
    exact->scales = train->needed;
    exact->scales_count = train->scales_count;
    exact->shards = train->desc.shards;
}
DLSI_FN void dlsi_exact_get_span(const void *arg, size_t first, size_t count, int32_t thread) {
    const dls_train *t = (const dls_train *)arg;
    size_t b;
    (void)thread;
    for (b = first; b < first + count; b++)
        DLSI_K(&t->exec->cx, exact_get, t->sums + b * DLSI_EXACT_BLOCK,
               t->exec->grads + b * DLSI_EXACT_BLOCK,
               dlsi_min_size(DLSI_EXACT_BLOCK, t->net->param_count - b * DLSI_EXACT_BLOCK),
               dlsi_exact_scale(t, t->predicted[b], true));
}
/* The next step's codes, from what all devices know alike: room above what was needed, slow to
   fall, and never far below the greatest, because blocks of small gradients vary most. */
DLSI_FN void dlsi_exact_predict(dls_train *t) {
    const size_t blocks = t->scales_count - 1;
    const int32_t fall = t->step % DLSI_EXACT_FALL == 0 ? 1 : 0;
    int32_t most = DLSI_EXACT_LEAST;
    size_t b;
    for (b = 0; b < blocks; b++) most = dlsi_max_i32(most, t->needed[b] - DLSI_EXACT_BELOW);
    for (b = 0; b <= blocks; b++) {
        const int32_t want = t->needed[b] + DLSI_EXACT_MARGIN, keep = t->predicted[b] - fall;
        const int32_t least = b < blocks ? most : DLSI_EXACT_LEAST;
        t->predicted[b] = (uint8_t)dlsi_min_i32(254, dlsi_max_i32(least, dlsi_max_i32(want, keep)));
    }
}
DLS_API dls_status dls_train_commit(dls_train *train, bool *redo, dls_step_stats *stats) {
    const size_t blocks = train->scales_count - 1;
    dls_loss_sums sums;
    dls_step_stats own;
    dls_status st;
    size_t b;
    bool again = false, bad = false;
    if (stats == NULL) stats = &own;
    memset(stats, 0, sizeof *stats);
    *redo = false;
    if (train->begun == 0) return DLS_E_STATE;
    for (b = 0; b <= blocks; b++) {
        bad = bad || train->needed[b] == 255;
        if (train->needed[b] <= train->predicted[b]) continue;
        train->predicted[b] = train->needed[b];
        again = true;
    }
    train->begun = 0;
    if (bad)
        return dlsi_fail(&train->exec->error, DLS_E_NUMBER,
                         DLSI_MSG("gradients are not finite: lower the learning rate"), NULL, 0, 0,
                         0);
    if (again) {
        train->redone++;
        *redo = true;
        return DLS_OK;
    }
    dlsi_par_spans(&train->exec->cx, blocks, 32, dlsi_exact_get_span, train);
    DLSI_K(&train->exec->cx, exact_get, train->sums + train->net->param_count, train->extra,
           DLSI_EXACT_EXTRA, dlsi_exact_scale(train, train->predicted[blocks], true));
    sums.loss = (double)train->extra[0];
    sums.positions = (double)train->extra[1];
    sums.correct = (double)train->extra[2];
    dlsi_train_stats(&sums, stats);
    st = dlsi_train_apply(train, stats);
    if (st != DLS_OK) return st;
    dlsi_exact_predict(train);
    stats->redone = train->redone;
    train->redone = 0;
    train->step++;
    dls_net_touch(train->net);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_train_exact_step(dls_train *t, const dlsi_source *src, int32_t n,
                                         dls_step_stats *stats) {
    bool redo = true;
    dls_status st = DLS_OK;
    int32_t s;
    while (redo && st == DLS_OK) {
        st = dls_train_begin(t, n);
        for (s = 0; s < t->desc.shards && st == DLS_OK; s++) st = dlsi_train_shard(t, src, s);
        if (st == DLS_OK) st = dls_train_commit(t, &redo, stats);
    }
    return st == DLS_OK
               ? st
               : dlsi_fail(
                     &t->exec->error, st,
                     DLSI_MSG("the step failed; are labels below the outputs, and inputs finite?"),
                     NULL, 0, 0, 0);
}

#if DLS_ENABLE_FILES && DLS_ENABLE_HEAP
/* ---- Checkpoints. The TRAIN section: u64 steps, u32 optimiser, u32 slots, u32 shards, u32 scale
   codes, u64 seed, 32 bytes 0; then f32 of each slot, then the predicted codes. ---- */

#define DLSI_TRAIN_HEAD 64
DLSI_FN size_t dlsi_train_codes(const dls_train *t) {
    return t->desc.shards > 0 ? t->scales_count : 0;
}
DLSI_FN size_t dlsi_train_state_bytes(const dls_train *t) {
    return DLSI_TRAIN_HEAD + (size_t)dls_optim_slots(&t->desc.optim) * 4 * t->net->param_count +
           dlsi_train_codes(t);
}
DLSI_FN void dlsi_train_state_fill(const void *user, unsigned char *p) {
    const dls_train *t = (const dls_train *)user;
    const int32_t slots = dls_optim_slots(&t->desc.optim);
    int32_t i;
    dlsi_store64(p, (uint64_t)t->step);
    dlsi_store32(p + 8, (uint32_t)t->desc.optim.kind);
    dlsi_store32(p + 12, (uint32_t)slots);
    dlsi_store32(p + 16, (uint32_t)t->desc.shards);
    dlsi_store32(p + 20, (uint32_t)dlsi_train_codes(t));
    dlsi_store64(p + 24, t->desc.seed);
    for (i = 0, p += DLSI_TRAIN_HEAD; i < slots; i++, p += 4 * t->net->param_count)
        dlsi_store_reals(p, t->slot[i], t->net->param_count);
    memcpy(p, t->predicted, dlsi_train_codes(t));
}
DLS_API dls_status dls_train_save(const dls_train *train, const char *path, dls_error *error) {
    dlsi_model_out o;
    const dls_status st = dlsi_model_out_open(&o, train->net);
    dlsi_error_clear(error);
    if (st != DLS_OK)
        return dlsi_fail(error, st, DLSI_MSG("nothing to save in '{s}'"), path, 0, 0, 0);
    o.extra = dlsi_train_state_bytes(train);
    o.fill = dlsi_train_state_fill;
    o.user = train;
    return dlsi_model_save(&o, path, error);
}
DLSI_FN dls_status dlsi_train_restore(dls_train *t, const dls_model *m, const char *path,
                                      dls_error *error) {
    const unsigned char *p = m->bytes + m->at[DLSI_TRAIN];
    const int32_t slots = dls_optim_slots(&t->desc.optim);
    int32_t i;
    dls_status st;
    if (m->at[DLSI_TRAIN] == 0)
        return dlsi_fail(
            error, DLS_E_STATE,
            DLSI_MSG("'{s}' is a model without training state; load it with dls_net_load"), path, 0,
            0, 0);
    if (m->length[DLSI_TRAIN] != dlsi_train_state_bytes(t) ||
        dlsi_load32(p + 8) != (uint32_t)t->desc.optim.kind ||
        dlsi_load32(p + 12) != (uint32_t)slots || dlsi_load32(p + 16) != (uint32_t)t->desc.shards ||
        dlsi_load64(p + 24) != t->desc.seed || dlsi_load64(p) > (uint64_t)1 << 62)
        return dlsi_fail(
            error, DLS_E_MISMATCH,
            DLSI_MSG("'{s}' was made with another optimiser, seed or number of shards ({0})"), path,
            (int32_t)(dlsi_load32(p + 16) & 0xFFFF), 0, 0);
    st = dls_model_params(m, t->net);
    if (st != DLS_OK)
        return dlsi_fail(error, st, DLSI_MSG("'{s}' holds another network"), path, 0, 0, 0);
    t->step = (int64_t)dlsi_load64(p);
    for (i = 0, p += DLSI_TRAIN_HEAD; i < slots; i++, p += 4 * t->net->param_count)
        dlsi_load_reals(p, t->slot[i], t->net->param_count);
    memcpy(t->predicted, p, dlsi_train_codes(t));
    return DLS_OK;
}
DLS_API dls_status dls_train_load(dls_train *train, const char *path, dls_error *error) {
    dls_model m;
    dls_status st = dls_model_read(&m, path, error);
    if (st != DLS_OK) return st;
    st = dlsi_train_restore(train, &m, path, error);
    DLS_FREE((void *)(uintptr_t)m.bytes);
    return st;
}
/* dls_fit's, which may be asked for without files. */
DLSI_FN dls_status dlsi_fit_save(dls_train *t, const char *path) {
    return dls_train_save(t, path, &t->exec->error);
}
DLSI_FN dls_status dlsi_fit_resume(dls_train *t, const char *path) {
    return dls_train_load(t, path, &t->exec->error);
}
#else
DLSI_FN dls_status dlsi_fit_save(dls_train *t, const char *path) {
    return dlsi_fail(&t->exec->error, DLS_E_UNSUPPORTED, DLSI_MSG("'{s}': files are compiled out"),
                     path, 0, 0, 0);
}
DLSI_FN dls_status dlsi_fit_resume(dls_train *t, const char *path) {
    return dlsi_fit_save(t, path);
}
#endif

/* ---- Data: gzip (RFC 1951, 1952) ---- */

typedef struct dlsi_inflate {
    const unsigned char *in;
    size_t in_size, at;
    unsigned char *out;
    size_t out_size, done;
    uint32_t bits; /* bits read ahead, the next one lowest */
    int32_t count;
    bool bad, full; /* full: bad because out is too short */
} dlsi_inflate;
#define DLSI_HUFF_FAST 9
typedef struct dlsi_huff {
    uint16_t fast[1 << DLSI_HUFF_FAST]; /* symbol << 4 | length, 0: longer code */
    uint16_t symbol[288];
    uint16_t count[16]; /* codes of each length */
} dlsi_huff;

DLSI_FN void dlsi_inflate_fill(dlsi_inflate *z) {
    while (z->count <= 24 && z->at < z->in_size) {
        z->bits |= (uint32_t)z->in[z->at++] << z->count;
        z->count += 8;
    }
}
DLSI_FN uint32_t dlsi_inflate_bits(dlsi_inflate *z, int32_t n) {
    uint32_t v;
    if (z->count < n) dlsi_inflate_fill(z);
    if (z->count < n) {
        z->bad = true;
        return 0;
    }
    v = z->bits & (((uint32_t)1 << n) - 1u);
    z->bits >>= n;
    z->count -= n;
    return v;
}
/* Code lengths to a decoder. False when the code is over-subscribed. */
DLSI_FN bool dlsi_huff_make(dlsi_huff *h, const uint8_t *length, int32_t n) {
    uint16_t offset[16];
    int32_t i, left = 1, code = 0, len;
    memset(h, 0, sizeof *h);
    for (i = 0; i < n; i++) h->count[length[i]]++;
    h->count[0] = 0;
    for (len = 1, offset[1] = 0; len < 16; len++) {
        left = 2 * left - h->count[len];
        if (left < 0) return false;
        if (len < 15) offset[len + 1] = (uint16_t)(offset[len] + h->count[len]);
    }
    for (i = 0; i < n; i++)
        if (length[i] != 0) h->symbol[offset[length[i]]++] = (uint16_t)i;
    for (len = 1, i = 0; len <= DLSI_HUFF_FAST; len++, code <<= 1) {
        int32_t k;
        for (k = 0; k < h->count[len]; k++, i++, code++) { /* codes are sent highest bit first */
            uint32_t reversed = 0, b;
            for (b = 0; b < (uint32_t)len; b++)
                reversed |= ((uint32_t)code >> b & 1u) << ((uint32_t)len - 1u - b);
            for (; reversed < 1u << DLSI_HUFF_FAST; reversed += 1u << len)
                h->fast[reversed] = (uint16_t)(h->symbol[i] << 4 | len);
        }
    }
    return true;
}
DLSI_FN int32_t dlsi_huff_read(dlsi_inflate *z, const dlsi_huff *h) {
    int32_t code = 0, first = 0, index = 0, len;
    uint32_t entry;
    dlsi_inflate_fill(z);
    entry = h->fast[z->bits & ((1u << DLSI_HUFF_FAST) - 1u)];
    if (entry != 0 && (int32_t)(entry & 15u) <= z->count) {
        z->bits >>= entry & 15u;
        z->count -= (int32_t)(entry & 15u);
        return (int32_t)(entry >> 4);
    }
    for (len = 1; len < 16; len++) {
        code |= (int32_t)dlsi_inflate_bits(z, 1);
        if (z->bad) return -1;
        if (code - first < h->count[len]) return h->symbol[index + code - first];
        index += h->count[len];
        first = (first + h->count[len]) * 2;
        code *= 2;
    }
    z->bad = true;
    return -1;
}
DLSI_FN void dlsi_inflate_stored(dlsi_inflate *z) {
    uint32_t n, check;
    (void)dlsi_inflate_bits(z, z->count % 8);
    n = dlsi_inflate_bits(z, 16);
    check = dlsi_inflate_bits(z, 16);
    z->bad = z->bad || n != (check ^ 0xFFFFu);
    z->full = !z->bad && n > z->out_size - z->done;
    z->bad = z->bad || z->full;
    while (!z->bad && n-- > 0) z->out[z->done++] = (unsigned char)dlsi_inflate_bits(z, 8);
}
DLSI_FN void dlsi_inflate_codes(dlsi_inflate *z, const dlsi_huff *lit, const dlsi_huff *dist) {
    static const uint16_t len_base[29] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                          15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                          67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t len_bits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                         2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t dist_base[30] = {
        1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
        193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    static const uint8_t dist_bits[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                          6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
    for (;;) {
        int32_t symbol = dlsi_huff_read(z, lit), d;
        size_t len, back;
        if (z->bad || symbol == 256) return;
        if (symbol < 256) {
            if (z->done == z->out_size) z->bad = z->full = true;
            if (z->bad) return;
            z->out[z->done++] = (unsigned char)symbol;
            continue;
        }
        if (symbol > 285) z->bad = true;
        if (z->bad) return;
        len = (size_t)len_base[symbol - 257] + dlsi_inflate_bits(z, len_bits[symbol - 257]);
        d = dlsi_huff_read(z, dist);
        if (z->bad || d < 0 || d > 29) z->bad = true;
        if (z->bad) return;
        back = (size_t)dist_base[d] + dlsi_inflate_bits(z, dist_bits[d]);
        if (!z->bad && back <= z->done && len > z->out_size - z->done) z->full = true;
        if (back > z->done || z->full) z->bad = true;
        if (z->bad) return;
        for (; len > 0; len--, z->done++) z->out[z->done] = z->out[z->done - back];
    }
}
DLSI_FN void dlsi_inflate_dynamic(dlsi_inflate *z, dlsi_huff *lit, dlsi_huff *dist) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                      11, 4,  12, 3, 13, 2, 14, 1, 15};
    uint8_t length[320];
    const int32_t nlit = (int32_t)dlsi_inflate_bits(z, 5) + 257,
                  ndist = (int32_t)dlsi_inflate_bits(z, 5) + 1;
    const int32_t ncode = (int32_t)dlsi_inflate_bits(z, 4) + 4;
    int32_t i, symbol, repeat;
    memset(length, 0, sizeof length);
    for (i = 0; i < ncode; i++) length[order[i]] = (uint8_t)dlsi_inflate_bits(z, 3);
    if (z->bad || nlit > 286 || ndist > 30 || !dlsi_huff_make(lit, length, 19)) {
        z->bad = true;
        return;
    }
    memset(length, 0, sizeof length);
    for (i = 0; i < nlit + ndist && !z->bad;) {
        uint8_t value = 0;
        symbol = dlsi_huff_read(z, lit);
        if (symbol >= 0 && symbol < 16) {
            length[i++] = (uint8_t)symbol;
            continue;
        }
        if (symbol == 16 && i > 0) value = length[i - 1];
        repeat = symbol == 16   ? 3 + (int32_t)dlsi_inflate_bits(z, 2)
                 : symbol == 17 ? 3 + (int32_t)dlsi_inflate_bits(z, 3)
                                : 11 + (int32_t)dlsi_inflate_bits(z, 7);
        if (z->bad || (symbol == 16 && i == 0) || i + repeat > nlit + ndist) z->bad = true;
        while (!z->bad && repeat-- > 0) length[i++] = value;
    }
    if (!z->bad && (length[256] == 0 || !dlsi_huff_make(lit, length, nlit) ||
                    !dlsi_huff_make(dist, length + nlit, ndist)))
        z->bad = true;
    if (!z->bad) dlsi_inflate_codes(z, lit, dist);
}
DLSI_FN void dlsi_inflate_run(dlsi_inflate *z) {
    dlsi_huff lit, dist;
    uint8_t length[288];
    uint32_t last = 0;
    while (last == 0 && !z->bad) {
        uint32_t kind;
        last = dlsi_inflate_bits(z, 1);
        kind = dlsi_inflate_bits(z, 2);
        if (z->bad || kind == 3) {
            z->bad = true;
        } else if (kind == 0) {
            dlsi_inflate_stored(z);
        } else if (kind == 2) {
            dlsi_inflate_dynamic(z, &lit, &dist);
        } else {
            memset(length, 8, 144);
            memset(length + 144, 9, 112);
            memset(length + 256, 7, 24);
            memset(length + 280, 8, 8);
            (void)dlsi_huff_make(&lit, length, 288);
            memset(length, 5, 30);
            (void)dlsi_huff_make(&dist, length, 30);
            dlsi_inflate_codes(z, &lit, &dist);
        }
    }
}
/* CRC-32 of gzip (polynomial 0xEDB88320), a nibble at a time. */
DLSI_FN uint32_t dlsi_crc32(const unsigned char *p, size_t n) {
    static const uint32_t table[16] = {0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu,
                                       0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
                                       0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu,
                                       0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    uint32_t crc = 0xFFFFFFFFu;
    while (n-- > 0) {
        crc ^= *p++;
        crc = table[crc & 15u] ^ crc >> 4;
        crc = table[crc & 15u] ^ crc >> 4;
    }
    return ~crc;
}
/* Length of a gzip header, 0 when it is none. */
DLSI_FN size_t dlsi_gzip_header(const unsigned char *p, size_t n) {
    size_t at = 10;
    int32_t text;
    if (n < 18 || p[0] != 31 || p[1] != 139 || p[2] != 8 || (p[3] & 0xE0) != 0) return 0;
    if ((p[3] & 4) != 0) at += 2 + (size_t)dlsi_load16(p + 10);
    for (text = (p[3] >> 3 & 1) + (p[3] >> 4 & 1); text > 0; text--) {
        while (at < n && p[at] != 0) at++;
        at++;
    }
    if ((p[3] & 2) != 0) at += 2;
    return at > n - 8 ? 0 : at;
}
DLS_API dls_status dls_gunzip(const void *bytes, size_t count, void *out, size_t out_bytes,
                              size_t *written) {
    const unsigned char *p = (const unsigned char *)bytes;
    const size_t head = dlsi_gzip_header(p, count);
    dlsi_inflate z;
    *written = 0;
    if (head == 0) return DLS_E_FORMAT;
    if (out == NULL) {
        *written = dlsi_load32(p + count - 4);
        return DLS_OK;
    }
    DLSI_ZERO(z);
    z.in = p;
    z.at = head;
    z.in_size = count - 8;
    z.out = (unsigned char *)out;
    z.out_size = out_bytes;
    dlsi_inflate_run(&z);
    *written = z.done;
    if (z.bad) return z.full ? DLS_E_MEMORY : DLS_E_FORMAT;
    if (dlsi_load32(p + count - 8) != dlsi_crc32(z.out, z.done)) return DLS_E_CHECKSUM;
    return dlsi_load32(p + count - 4) != (uint32_t)(z.done & 0xFFFFFFFFu) ? DLS_E_FORMAT : DLS_OK;
}

/* ---- Data sets ---- */

DLSI_FN uint32_t dlsi_big32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}
DLS_API dls_status dls_data_from_idx(dls_data *data, const void *images, size_t image_bytes,
                                     const void *labels, size_t label_bytes, dls_error *error) {
    const unsigned char *x = (const unsigned char *)images, *y = (const unsigned char *)labels;
    uint32_t dim[4] = {0, 1, 1, 1}, i, dims;
    size_t need;
    if (image_bytes < 8 || x[0] != 0 || x[1] != 0 || x[2] != 8 || x[3] < 1 || x[3] > 4 ||
        image_bytes < 4 + 4 * (size_t)x[3])
        return dlsi_fail(error, DLS_E_FORMAT, DLSI_MSG("not an IDX file of bytes with 1 to 4 axes"),
                         NULL, 0, 0, 0);
    dims = x[3];
    for (i = 0; i < dims; i++) dim[i] = dlsi_big32(x + 4 + 4 * i);
    need = dlsi_mul(dlsi_mul(dim[0], dim[1]), dlsi_mul(dim[2], dim[3]));
    for (i = 0; i < 4; i++)
        if (dim[i] < 1 || dim[i] > DLS_DIM_MAX) need = SIZE_MAX;
    if (need != image_bytes - 4 - 4 * (size_t)dims)
        return dlsi_fail(
            error, DLS_E_FORMAT,
            DLSI_MSG("the IDX header's {0} x {1} x {2} does not fit the size of the file"), NULL,
            (int32_t)(dim[0] & 0x7FFFFFFF), (int32_t)(dim[1] & 0x7FFFFFFF),
            (int32_t)(dim[2] & 0x7FFFFFFF));
    if (y != NULL && (label_bytes < 8 || y[0] != 0 || y[1] != 0 || y[2] != 8 || y[3] != 1 ||
                      label_bytes != 8 + (size_t)dlsi_big32(y + 4)))
        return dlsi_fail(error, DLS_E_FORMAT,
                         DLSI_MSG("the labels are not an IDX file of bytes with one axis"), NULL, 0,
                         0, 0);
    if (y != NULL && dlsi_big32(y + 4) != dim[0])
        return dlsi_fail(error, DLS_E_FORMAT, DLSI_MSG("{0} images but {1} labels"), NULL,
                         (int32_t)dim[0], (int32_t)(dlsi_big32(y + 4) & 0x7FFFFFFF), 0);
    memset(data, 0, sizeof *data);
    data->x = x + 4 + 4 * dims;
    data->dtype = DLS_U8;
    data->count = (int32_t)dim[0];
    data->shape = dims == 2 ? dlsi_shape(1, 1, (int32_t)dim[1])
                            : dlsi_shape((int32_t)dim[1], (int32_t)dim[2], (int32_t)dim[3]);
    return DLS_OK;
}

/* Beta(a, a) by Johnk's method, for a up to about 4; 0.5 when luck runs out. */
DLSI_FN double dlsi_beta(uint64_t seed, double a) {
    dls_rng rng;
    int32_t i;
    rng.seed = seed;
    rng.next = 0;
    for (i = 0; i < 64; i++) {
        const double u = dlsi_exp(dlsi_log(((double)dls_rng_u32(&rng) + 0.5) / 4294967296.0) / a);
        const double v = dlsi_exp(dlsi_log(((double)dls_rng_u32(&rng) + 0.5) / 4294967296.0) / a);
        if (u + v <= 1.0 && u + v > 0.0) return u / (u + v);
    }
    return 0.5;
}
/* How one sample is changed: rows and columns move by dy, dx; mirrored; a square blanked. */
typedef struct dlsi_change {
    int32_t dy, dx, cut_y, cut_x, cut;
    bool flip;
} dlsi_change;
DLSI_FN int32_t dlsi_draw(dls_rng *rng, int32_t n) {
    return (int32_t)(dls_rng_u32(rng) % (uint32_t)n);
}
DLSI_FN dlsi_change dlsi_change_of(const dls_augment *a, uint64_t seed, dls_shape s) {
    dlsi_change c;
    dls_rng rng;
    DLSI_ZERO(c);
    if (a == NULL) return c;
    rng.seed = seed;
    rng.next = 0;
    if (a->shift > 0) {
        c.dy = dlsi_draw(&rng, 2 * a->shift + 1) - a->shift;
        c.dx = dlsi_draw(&rng, 2 * a->shift + 1) - a->shift;
    }
    if (a->crop > 0) {
        c.dy += dlsi_draw(&rng, 2 * a->crop + 1) - a->crop;
        c.dx += dlsi_draw(&rng, 2 * a->crop + 1) - a->crop;
    }
    if (a->flip) c.flip = (dls_rng_u32(&rng) & 1u) != 0;
    if (a->cutout > 0) {
        c.cut = a->cutout;
        c.cut_y = dlsi_draw(&rng, s.h) - a->cutout / 2;
        c.cut_x = dlsi_draw(&rng, s.w) - a->cutout / 2;
    }
    return c;
}
/* One element as stored: bytes as 0..1. */
DLSI_FN dls_real dlsi_data_element(const dls_data *d, size_t at) {
    if (d->dtype == DLS_U8)
        return (dls_real)((const unsigned char *)d->x)[at] * (dls_real)(1.0f / 255.0f);
    return (dls_real)((const float *)d->x)[at];
}
/* y = a sample, normalised: x scale + offset per channel. */
DLSI_FN void dlsi_data_plain(const dls_data *d, int32_t index, dls_real *y) {
    const size_t count = dlsi_count(d->shape), c = (size_t)d->shape.c, base = (size_t)index * count;
    const unsigned char *bytes = (const unsigned char *)d->x + base;
    const float *reals = (const float *)d->x + (d->dtype == DLS_F32 ? base : 0);
    size_t k, i;
    for (k = 0; k < c; k++) {
        const size_t m = dlsi_min_size(k, 3);
        const dls_real unit = d->dtype == DLS_U8 ? (dls_real)(1.0f / 255.0f) : (dls_real)1;
        const dls_real inverse = d->std[m] > 0 ? (dls_real)1 / (dls_real)d->std[m] : (dls_real)1;
        const dls_real scale = unit * inverse;
        const dls_real offset =
            d->std[m] > 0 ? (dls_real)0 - (dls_real)d->mean[m] * inverse : (dls_real)0;
        if (d->dtype == DLS_U8)
            for (i = k; i < count; i += c) y[i] = (dls_real)bytes[i] * scale + offset;
        else
            for (i = k; i < count; i += c) y[i] = (dls_real)reals[i] * scale + offset;
    }
}
/* y += share times a sample, changed and normalised. */
DLSI_FN void dlsi_data_sample(const dls_data *d, int32_t index, const dlsi_change *c,
                              dls_real share, dls_real *y) {
    const dls_shape s = d->shape;
    const size_t base = (size_t)index * dlsi_count(s);
    int32_t i, j, k;
    for (i = 0; i < s.h; i++) {
        for (j = 0; j < s.w; j++) {
            const int32_t row = i - c->dy, col = c->flip ? s.w - 1 - j - c->dx : j - c->dx;
            const bool in = row >= 0 && row < s.h && col >= 0 && col < s.w &&
                            !(c->cut > 0 && i >= c->cut_y && i < c->cut_y + c->cut &&
                              j >= c->cut_x && j < c->cut_x + c->cut);
            for (k = 0; k < s.c; k++, y++) {
                const int32_t m = dlsi_min_i32(k, 3);
                dls_real v =
                    in ? dlsi_data_element(
                             d, base + ((size_t)row * (size_t)s.w + (size_t)col) * (size_t)s.c +
                                    (size_t)k)
                       : (dls_real)0;
                if (d->std[m] > 0)
                    v = (v - (dls_real)d->mean[m]) * ((dls_real)1 / (dls_real)d->std[m]);
                *y += share * v;
            }
        }
    }
}
DLS_API dls_status dls_data_fetch(const dls_data *data, const dls_augment *augment, uint64_t seed,
                                  const int32_t *index, int32_t n, void *x, int32_t *label,
                                  int32_t *label2, float *share2, dls_real *values) {
    const size_t count = dlsi_count(data->shape);
    int32_t i, k;
    for (i = 0; i < n; i++) {
        const int32_t at = index[i];
        const uint64_t own = dlsi_seed(seed, (uint64_t)(uint32_t)at);
        dlsi_change c = dlsi_change_of(augment, own, data->shape);
        if (at < 0 || at >= data->count || (label != NULL && data->label == NULL) ||
            (label2 != NULL && share2 == NULL))
            return DLS_E_ARG;
        if (label != NULL) label[i] = data->label[at];
        for (k = 0; values != NULL && k < data->values_each; k++)
            values[(size_t)i * (size_t)data->values_each + (size_t)k] =
                (dls_real)data->values[(size_t)at * (size_t)data->values_each + (size_t)k];
        if (x != NULL && data->dtype == DLS_I32) {
            memcpy((int32_t *)x + (size_t)i * count, (const int32_t *)data->x + (size_t)at * count,
                   count * sizeof(int32_t));
        } else if (x != NULL) {
            dls_real *y = (dls_real *)x + (size_t)i * count;
            if (label2 != NULL) { /* unless mixed below */
                label2[i] = data->label != NULL ? data->label[at] : 0;
                share2[i] = 0.0f;
            }
            if (augment == NULL || dlsi_all_zero((const unsigned char *)augment, sizeof *augment)) {
                dlsi_data_plain(data, at, y);
                continue;
            }
            memset(y, 0, count * sizeof *y);
            if (label2 != NULL && augment->mixup > 0) { /* with another sample, changed its way */
                const double other = dlsi_beta(dlsi_seed(own, 1), (double)augment->mixup);
                const int32_t with =
                    (int32_t)(dls_rand_at(dlsi_seed(own, 2), 0) % (uint32_t)data->count);
                dlsi_data_sample(data, at, &c, (dls_real)(1.0 - other), y);
                c = dlsi_change_of(augment, dlsi_seed(own, 3), data->shape);
                dlsi_data_sample(data, with, &c, (dls_real)other, y);
                label2[i] = data->label != NULL ? data->label[with] : 0;
                share2[i] = (float)other;
            } else {
                dlsi_data_sample(data, at, &c, (dls_real)1, y);
            }
        }
    }
    return DLS_OK;
}

#if DLS_ENABLE_FILES && DLS_ENABLE_HEAP
/* ---- Data files ---- */

DLS_API dls_status dls_file_read(const char *path, void **bytes, size_t *count, dls_error *error) {
    void *raw = NULL, *out;
    size_t raw_count = 0, size = 0;
    dls_status st;
    dlsi_error_clear(error);
    st = dlsi_port_read_file(path, &raw, &raw_count, error);
    *bytes = raw;
    *count = raw_count;
    if (st != DLS_OK || raw_count < 2 || ((unsigned char *)raw)[0] != 31 ||
        ((unsigned char *)raw)[1] != 139)
        return st;
    st = dls_gunzip(raw, raw_count, NULL, 0, &size);
    /* deflate makes at most 1032 bytes of one: a trailer that claims more is wrong */
    if (st != DLS_OK || size / 1032 > raw_count) {
        st = dlsi_fail(error, DLS_E_FORMAT, DLSI_MSG("'{s}' is not a sound gzip file"), path, 0, 0,
                       0);
        out = NULL;
    } else {
        out = DLS_MALLOC(size + 1);
        if (out == NULL)
            st = dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("'{s}' inflated does not fit in memory"),
                           path, 0, 0, 0);
        else
            st = dls_gunzip(raw, raw_count, out, size, &size);
        if (st != DLS_OK && st != DLS_E_MEMORY)
            (void)dlsi_fail(error, st, DLSI_MSG("'{s}' is damaged or not gzip"), path, 0, 0, 0);
        if (st == DLS_E_MEMORY && out != NULL)
            st = dlsi_fail(error, DLS_E_FORMAT, DLSI_MSG("'{s}' is longer than its trailer says"),
                           path, 0, 0, 0);
    }
    DLS_FREE(raw);
    if (st != DLS_OK && out != NULL) DLS_FREE(out);
    if (st == DLS_OK) ((unsigned char *)out)[size] = 0;
    *bytes = st == DLS_OK ? out : NULL;
    *count = st == DLS_OK ? size : 0;
    return st;
}
/* name + end, to be freed; NULL without memory. */
DLSI_FN char *dlsi_path(const char *name, size_t length, const char *end) {
    char *path = (char *)DLS_MALLOC(length + strlen(end) + 1);
    if (path == NULL) return NULL;
    memcpy(path, name, length);
    memcpy(path + length, end, strlen(end) + 1);
    return path;
}
/* name + end, or that + ".gz". */
DLSI_FN dls_status dlsi_data_file(const char *name, const char *end, void **bytes, size_t *count,
                                  dls_error *error) {
    char *plain = dlsi_path(name, strlen(name), end), *zipped = NULL;
    dls_error first;
    dls_status st = DLS_E_MEMORY;
    dlsi_error_clear(&first);
    if (plain != NULL) st = dls_file_read(plain, bytes, count, &first);
    if (st == DLS_E_NOT_FOUND) {
        zipped = dlsi_path(plain, strlen(plain), ".gz");
        st = zipped != NULL ? dls_file_read(zipped, bytes, count, NULL) : DLS_E_MEMORY;
    }
    if (st == DLS_E_NOT_FOUND)
        (void)dlsi_fail(error, st,
                        DLSI_MSG("neither '{s}-images-idx3-ubyte' nor '{s}-images-idx3-ubyte.gz' "
                                 "(or -labels-idx1-ubyte) can be opened"),
                        name, 0, 0, 0);
    else if (st != DLS_OK)
        (void)dlsi_fail(error, st, DLSI_MSG("the images or labels of '{s}' cannot be read"), name,
                        0, 0, 0);
    if (plain != NULL) DLS_FREE(plain);
    if (zipped != NULL) DLS_FREE(zipped);
    return st;
}
DLSI_FN dls_status dlsi_data_labels(dls_data *d, const unsigned char *label, dls_error *error) {
    int32_t *to = (int32_t *)DLS_MALLOC((size_t)d->count * sizeof *to), i;
    if (to == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for {0} labels"), NULL, d->count,
                         0, 0);
    for (i = 0; i < d->count; i++) {
        to[i] = label[i];
        d->classes = dlsi_max_i32(d->classes, to[i] + 1);
    }
    d->label = to;
    d->owned[1] = to;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_data_open_idx(dls_data *data, const char *name, dls_error *error) {
    void *x = NULL, *y = NULL;
    size_t nx = 0, ny = 0;
    dls_status st = dlsi_data_file(name, "-images-idx3-ubyte", &x, &nx, error);
    if (st == DLS_OK) st = dlsi_data_file(name, "-labels-idx1-ubyte", &y, &ny, error);
    if (st == DLS_OK) {
        st = dls_data_from_idx(data, x, nx, y, ny, error);
        if (st != DLS_OK && error != NULL) error->name = name;
    }
    if (st == DLS_OK) {
        data->owned[0] = x;
        x = NULL;
        st = dlsi_data_labels(data, (const unsigned char *)y + 8, error);
        if (st != DLS_OK) dls_data_close(data);
    }
    if (x != NULL) DLS_FREE(x);
    if (y != NULL) DLS_FREE(y);
    return st;
}

/* Parses lines of text: counts rows and columns (x NULL), then fills. Returns the bad line, 0:
   none. */
DLSI_FN int32_t dlsi_csv(const char *text, size_t size, int32_t *rows, int32_t *cols, float *x,
                         int32_t *label) {
    const char *p = text, *end = text + size;
    int32_t line = 0, row = 0;
    while (p < end) {
        const char *stop = p;
        int32_t col = 0;
        double v = 0.0;
        while (stop < end && *stop != '\n') stop++;
        line++;
        while (p < stop) {
            if (*p == '\r' && p + 1 == stop) break;
            if (!dlsi_number(&p, stop, &v)) {
                if (line == 1 && col == 0) break; /* a header */
                return line;
            }
            if (x != NULL && col > 0 && col <= *cols)
                x[(size_t)row * (size_t)*cols + (size_t)(col - 1)] = (float)v;
            if (x != NULL && col == 0) label[row] = (int32_t)v;
            if (col == 0 && (v < 0 || v > 1e6 || v != (double)(int32_t)v)) return line;
            col++;
            if (p < stop && *p != ',' && *p != ';' && *p != '\r') return line;
            if (p < stop && *p != '\r') p++;
        }
        p = stop < end ? stop + 1 : end;
        if (col == 0) continue;
        if (row == 0 && x == NULL) *cols = col - 1;
        if (col - 1 != *cols || col < 2) return line;
        row++;
    }
    *rows = row;
    return row == 0 ? dlsi_max_i32(line, 1) : 0;
}
DLSI_FN dls_status dlsi_data_open_csv(dls_data *data, const char *name, dls_error *error) {
    void *text = NULL;
    size_t size = 0;
    int32_t rows = 0, cols = 0, bad, i;
    dls_status st = dls_file_read(name, &text, &size, error);
    if (st != DLS_OK) return st;
    bad = dlsi_csv((const char *)text, size, &rows, &cols, NULL, NULL);
    if (bad != 0) {
        st = dlsi_fail(
            error, DLS_E_FORMAT,
            DLSI_MSG("'{s}', line {0}: want a label, then as many numbers as in the first line"),
            name, bad, 0, 0);
    } else {
        data->owned[0] = dlsi_mul((size_t)rows, (size_t)cols) < SIZE_MAX / 8
                             ? DLS_MALLOC((size_t)rows * (size_t)cols * sizeof(float))
                             : NULL;
        data->owned[1] = DLS_MALLOC((size_t)rows * sizeof(int32_t));
        if (data->owned[0] == NULL || data->owned[1] == NULL) {
            dls_data_close(data);
            st = dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("'{s}' does not fit in memory"), name, 0,
                           0, 0);
        }
    }
    if (st == DLS_OK) {
        data->x = data->owned[0];
        data->label = (const int32_t *)data->owned[1];
        (void)dlsi_csv((const char *)text, size, &rows, &cols, (float *)data->owned[0],
                       (int32_t *)data->owned[1]);
        data->dtype = DLS_F32;
        data->count = rows;
        data->shape = dlsi_shape(1, 1, cols);
        for (i = 0; i < rows; i++) data->classes = dlsi_max_i32(data->classes, data->label[i] + 1);
    }
    DLS_FREE(text);
    return st;
}

/* The value of a key in the header of a .npy file: where it begins, or NULL. */
DLSI_FN const char *dlsi_npy_key(const char *head, size_t size, const char *key) {
    const size_t n = strlen(key);
    size_t i;
    for (i = 0; i + n + 3 < size; i++) {
        if ((head[i] != '\'' && head[i] != '"') || memcmp(head + i + 1, key, n) != 0 ||
            head[i + n + 1] != head[i])
            continue;
        for (i += n + 2; i < size && (head[i] == ' ' || head[i] == ':'); i++) {}
        return i < size ? head + i : NULL;
    }
    return NULL;
}
typedef struct dlsi_npy {
    const unsigned char *data;
    size_t count; /* elements after the first axis */
    int32_t dim[4], dims;
    dls_dtype dtype;
} dlsi_npy;
DLSI_FN bool dlsi_npy_parse(const unsigned char *p, size_t size, dlsi_npy *a) {
    const char *head, *descr, *order, *shape, *end;
    size_t length, at, bytes;
    memset(a, 0, sizeof *a);
    if (size < 12 || memcmp(p, "\x93NUMPY", 6) != 0 || p[6] < 1 || p[6] > 3) return false;
    at = p[6] == 1 ? 10 : 12;
    length = p[6] == 1 ? dlsi_load16(p + 8) : dlsi_load32(p + 8);
    if (length > size - at) return false;
    head = (const char *)p + at;
    end = head + length;
    descr = dlsi_npy_key(head, length, "descr");
    order = dlsi_npy_key(head, length, "fortran_order");
    shape = dlsi_npy_key(head, length, "shape");
    if (descr == NULL || order == NULL || shape == NULL || end - descr < 5 || *order != 'F' ||
        *shape != '(')
        return false;
    a->dtype = memcmp(descr + 2, "f4", 2) == 0   ? DLS_F32
               : memcmp(descr + 2, "i4", 2) == 0 ? DLS_I32
                                                 : DLS_U8;
    if ((a->dtype == DLS_U8 && memcmp(descr + 2, "u1", 2) != 0) ||
        (a->dtype != DLS_U8 && descr[1] != '<'))
        return false;
    for (shape++, a->count = 1; shape < end && *shape != ')';) {
        double v = 0.0;
        if (a->dims == 4 || !dlsi_number(&shape, end, &v) || v < 1.0 || v > (double)DLS_DIM_MAX)
            return false;
        if (a->dims > 0) a->count = dlsi_mul(a->count, (size_t)v);
        a->dim[a->dims++] = (int32_t)v;
        while (shape < end && (*shape == ',' || *shape == ' ' || *shape == 'L')) shape++;
    }
    bytes = dlsi_mul(dlsi_mul(a->count, (size_t)a->dim[0]), a->dtype == DLS_U8 ? 1u : 4u);
    a->data = p + at + length;
    return a->dims > 0 && a->count <= DLS_DIM_MAX && bytes == size - at - length;
}
/* 4-byte elements to this machine's order, to a place aligned for them. */
DLSI_FN void *dlsi_npy_copy(const dlsi_npy *a) {
    const size_t n = a->count * (size_t)a->dim[0], width = a->dtype == DLS_U8 ? 1u : 4u;
    unsigned char *to = (unsigned char *)DLS_MALLOC(n * width);
    size_t i;
    if (to == NULL) return NULL;
    if (width == 1) memcpy(to, a->data, n);
    for (i = 0; width == 4 && i < n; i++) {
        const uint32_t v = dlsi_load32(a->data + 4 * i);
        memcpy(to + 4 * i, &v, 4);
    }
    return to;
}
DLSI_FN dls_status dlsi_npy_labels(dls_data *data, const char *name, dls_error *error) {
    char *path = dlsi_path(name, strlen(name) - 4, "-labels.npy");
    void *bytes = NULL;
    size_t size = 0;
    dlsi_npy a;
    int32_t i;
    dls_status st = path != NULL ? dls_file_read(path, &bytes, &size, NULL) : DLS_E_MEMORY;
    if (path != NULL) DLS_FREE(path);
    if (st == DLS_E_NOT_FOUND) return DLS_OK;
    if (st == DLS_OK && (!dlsi_npy_parse((const unsigned char *)bytes, size, &a) || a.count != 1 ||
                         a.dim[0] != data->count || a.dtype == DLS_F32))
        st = DLS_E_FORMAT;
    if (st == DLS_OK) {
        int32_t *label = (int32_t *)DLS_MALLOC((size_t)data->count * sizeof *label);
        data->owned[1] = label;
        data->label = label;
        if (label == NULL) st = DLS_E_MEMORY;
        for (i = 0; st == DLS_OK && i < data->count; i++) {
            label[i] = a.dtype == DLS_U8 ? a.data[i] : (int32_t)dlsi_load32(a.data + 4 * i);
            if (label[i] < 0 || label[i] > 1000000) st = DLS_E_FORMAT;
            data->classes = dlsi_max_i32(data->classes, label[i] + 1);
        }
    }
    if (bytes != NULL) DLS_FREE(bytes);
    return st == DLS_OK
               ? st
               : dlsi_fail(error, st,
                           DLSI_MSG("the labels beside '{s}' are not one u1 or i4 per sample"),
                           name, 0, 0, 0);
}
DLSI_FN dls_status dlsi_data_open_npy(dls_data *data, const char *name, dls_error *error) {
    void *bytes = NULL;
    size_t size = 0;
    dlsi_npy a;
    dls_status st = dls_file_read(name, &bytes, &size, error);
    if (st != DLS_OK) return st;
    if (!dlsi_npy_parse((const unsigned char *)bytes, size, &a)) {
        st = dlsi_fail(
            error, DLS_E_FORMAT,
            DLSI_MSG("'{s}' is not a .npy file of <f4, <i4 or |u1 in C order with 1 to 4 axes"),
            name, 0, 0, 0);
    } else {
        data->owned[0] = dlsi_npy_copy(&a);
        data->x = data->owned[0];
        data->dtype = a.dtype;
        data->count = a.dim[0];
        data->shape = a.dims == 4   ? dlsi_shape(a.dim[1], a.dim[2], a.dim[3])
                      : a.dims == 3 ? dlsi_shape(a.dim[1], a.dim[2], 1)
                                    : dlsi_shape(1, 1, a.dims == 2 ? a.dim[1] : 1);
        if (data->x == NULL)
            st = dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("'{s}' does not fit in memory"), name, 0,
                           0, 0);
    }
    DLS_FREE(bytes);
    if (st == DLS_OK) st = dlsi_npy_labels(data, name, error);
    if (st != DLS_OK) dls_data_close(data);
    return st;
}
DLS_API dls_status dls_data_open(dls_data *data, const char *name, dls_error *error) {
    const size_t n = strlen(name);
    dlsi_error_clear(error);
    memset(data, 0, sizeof *data);
    if (n > 4 && strcmp(name + n - 4, ".csv") == 0) return dlsi_data_open_csv(data, name, error);
    if (n > 4 && strcmp(name + n - 4, ".npy") == 0) return dlsi_data_open_npy(data, name, error);
    return dlsi_data_open_idx(data, name, error);
}
DLS_API void dls_data_close(dls_data *data) {
    int32_t i;
    for (i = 0; i < 3; i++) {
        if (data->owned[i] != NULL) DLS_FREE(data->owned[i]);
        data->owned[i] = NULL;
    }
    data->x = NULL;
    data->label = NULL;
    data->values = NULL;
    data->count = 0;
}
#endif

#if DLS_ENABLE_STB_IMAGE
DLS_API dls_status dls_image_load(const char *path, dls_shape shape, dls_real *x) {
    int w = 0, h = 0, channels = 0, i, j, k;
    unsigned char *pixels = NULL;
    void *bytes;
    size_t size;
    dls_status st;
    if (dls_shape_count(shape) == 0 || (shape.c != 1 && shape.c != 3 && shape.c != 4))
        return DLS_E_ARG;
    st = dlsi_port_read_file(path, &bytes, &size, NULL);
    if (st != DLS_OK) return st;
    if (size <= INT_MAX)
        pixels = stbi_load_from_memory((const unsigned char *)bytes, (int)size, &w, &h, &channels,
                                       (int)shape.c);
    DLS_FREE(bytes);
    if (pixels == NULL) return DLS_E_FORMAT;
    for (i = 0; i < shape.h; i++) {
        for (j = 0; j < shape.w; j++) {
            /* the box of the source that this pixel covers, at least one pixel of it */
            const int y0 = (int)((int64_t)i * h / shape.h), x0 = (int)((int64_t)j * w / shape.w);
            int y1 = (int)((int64_t)(i + 1) * h / shape.h),
                x1 = (int)((int64_t)(j + 1) * w / shape.w), a, b;
            if (y1 <= y0) y1 = y0 + 1;
            if (x1 <= x0) x1 = x0 + 1;
            for (k = 0; k < shape.c; k++) {
                int64_t sum = 0;
                for (a = y0; a < y1; a++)
                    for (b = x0; b < x1; b++) sum += pixels[((int64_t)a * w + b) * shape.c + k];
                *x++ = (dls_real)sum / ((dls_real)255 * (dls_real)((int64_t)(y1 - y0) * (x1 - x0)));
            }
        }
    }
    stbi_image_free(pixels);
    return DLS_OK;
}
#endif

/* ---- Fit ---- */

DLS_API int32_t dls_fit_index(uint64_t seed, int32_t epoch, int32_t count, int32_t i) {
    return (int32_t)dls_shuffle_at(dlsi_seed(seed, 0x65706F6368u + (uint64_t)epoch),
                                   (uint32_t)count, (uint32_t)i);
}

#if DLS_ENABLE_HEAP
typedef struct dlsi_fit {
    const dls_data *data;
    dls_fit_desc d;
    dls_train *train;
    dls_pool *pool; /* ours */
    int32_t *index;
    int64_t steps, per_epoch;
    dls_progress progress;
    double loss, accuracy, epoch_loss,
        epoch_accuracy; /* sums of steps since the last report, this epoch */
    int64_t since, epoch_since;
    uint64_t start, reported;
} dlsi_fit;

/* Samples of a step: their indices to f->index, their count returned. */
DLSI_FN int32_t dlsi_fit_samples(dlsi_fit *f, int64_t step) {
    const int32_t batch = f->train->desc.batch, epoch = (int32_t)(step / f->per_epoch);
    const int32_t first = (int32_t)(step % f->per_epoch) * batch;
    const int32_t n = dlsi_min_i32(batch, f->data->count - first);
    int32_t i;
    for (i = 0; i < n; i++)
        f->index[i] = dls_fit_index(f->d.train.seed, epoch, f->data->count, first + i);
    return n;
}
DLS_API char *dls_progress_text(const dls_progress *progress, int32_t bar, char *buf,
                                size_t bytes) {
    const int64_t steps = progress->steps > 0 ? progress->steps : 1;
    const int64_t filled = bar * progress->step / steps;
    const double each = progress->step > 0 ? progress->seconds / (double)progress->step : 0;
    dlsi_text t;
    int32_t i;
    t.buf = buf;
    t.used = 0;
    t.size = bytes;
    dlsi_text_str(&t, bar > 0 ? "[" : "");
    for (i = 0; i < bar; i++) dlsi_text_str(&t, i < filled ? "#" : ".");
    dlsi_text_str(&t, bar > 0 ? "] epoch " : "epoch ");
    dlsi_text_int(&t, progress->epoch);
    dlsi_text_str(&t, "/");
    dlsi_text_int(&t, progress->epochs);
    dlsi_text_str(&t, "  step ");
    dlsi_text_int(&t, progress->step);
    dlsi_text_str(&t, "/");
    dlsi_text_int(&t, progress->steps);
    dlsi_text_str(&t, "  loss ");
    dlsi_text_fixed(&t, progress->loss, 4);
    dlsi_text_str(&t, progress->accuracy > 0 ? "  accuracy " : "");
    if (progress->accuracy > 0) dlsi_text_fixed(&t, 100 * progress->accuracy, 2);
    dlsi_text_str(&t, progress->accuracy > 0 ? " %  " : "  ");
    dlsi_text_fixed(&t, progress->samples_per_s, 0);
    dlsi_text_str(&t, " samples/s  ");
    dlsi_text_fixed(&t, each * (double)(steps - progress->step), 0);
    dlsi_text_str(&t, " s left");
    if (bytes > 0) buf[t.used] = '\0';
    return buf;
}

/* Reports progress when it is time or the last step; false: stop. */
DLSI_FN bool dlsi_fit_report(dlsi_fit *f) {
    const uint64_t now = dls_now_us(), every = (uint64_t)dlsi_or(f->d.progress_ms, 100) * 1000u;
    dls_progress *p = &f->progress;
    if (f->d.progress == NULL || f->since == 0) return true;
    if (now - f->reported < every && f->train->step < f->steps) return true;
    p->step = f->train->step;
    p->steps = f->steps;
    p->epoch = (int32_t)((f->train->step - 1) / f->per_epoch) + 1;
    p->epochs = (int32_t)((f->steps + f->per_epoch - 1) / f->per_epoch);
    p->loss = f->loss / (double)f->since;
    p->accuracy = f->accuracy / (double)f->since;
    p->seconds = (double)(now - f->start) * 1e-6;
    p->samples_per_s =
        (double)f->since * (double)f->train->desc.batch * 1e6 / (double)(now - f->reported + 1);
    p->lr = dls_optim_lr(&f->train->desc.optim, f->train->step);
    f->reported = now;
    f->since = 0;
    f->loss = f->accuracy = 0.0;
    return f->d.progress(f->d.user, p);
}
DLSI_FN void dlsi_fit_count(dlsi_fit *f, const dls_step_stats *stats, dls_fit_report *report,
                            int32_t n) {
    f->loss += stats->loss;
    f->accuracy += stats->accuracy;
    f->since++;
    if ((f->train->step - 1) % f->per_epoch == 0) {
        f->epoch_loss = f->epoch_accuracy = 0.0;
        f->epoch_since = 0;
    }
    f->epoch_loss += stats->loss;
    f->epoch_accuracy += stats->accuracy;
    f->epoch_since++;
    report->redone += stats->redone;
    report->samples += n;
    report->steps++;
}
DLSI_FN dls_status dlsi_fit_open(dlsi_fit *f, dls_net *net, const dls_data *data,
                                 const dls_fit_desc *desc) {
    dls_train_desc d = dlsi_train_desc(&desc->train);
    dls_pool_desc pool;
    DLSI_ZERO(pool);
    pool.threads = desc->threads;
    f->data = data;
    f->d = *desc;
    if (data->count < 1)
        return dlsi_fail(&net->plan_error, DLS_E_ARG, DLSI_MSG("the data set is empty"), NULL, 0, 0,
                         0);
    if (d.pool == NULL && desc->threads != 1) {
        f->pool = dls_pool_create(&pool);
        if (f->pool == NULL)
            return dlsi_fail(&net->plan_error, DLS_E_MEMORY, DLSI_MSG("cannot start {0} threads"),
                             NULL, desc->threads, 0, 0);
        d.pool = f->pool;
    }
    f->per_epoch = dlsi_ceil_div(data->count, d.batch);
    f->steps = f->per_epoch * dlsi_or(desc->epochs, 1);
    if (desc->steps > 0) f->steps = desc->steps;
    if (d.optim.total_steps == 0) { /* of the epochs, so that a run cut short can be gone on with */
        d.optim.total_steps = f->per_epoch * desc->epochs;
        if (d.optim.total_steps < f->steps) d.optim.total_steps = f->steps;
    }
    f->train = dls_train_create(net, &d);
    if (f->train == NULL)
        return net->error.status != DLS_OK            ? net->error.status
               : dls_net_error(net)->status != DLS_OK ? dls_net_error(net)->status
                                                      : DLS_E_MEMORY;
    f->index = (int32_t *)DLS_MALLOC((size_t)d.batch * sizeof(int32_t));
    return f->index != NULL
               ? DLS_OK
               : dlsi_fail(&net->plan_error, DLS_E_MEMORY,
                           DLSI_MSG("no memory for {0} indices of samples"), NULL, d.batch, 0, 0);
}
DLSI_FN void dlsi_fit_close(dlsi_fit *f) {
    if (f->index != NULL) DLS_FREE(f->index);
    dls_train_destroy(f->train);
    dls_pool_destroy(f->pool);
}
/* One device's step; >>node has another. */
typedef dls_status (*dlsi_fit_step_fn)(void *user, dlsi_fit *f, int32_t n, dls_step_stats *stats);
DLSI_FN dls_status dlsi_fit_own_step(void *user, dlsi_fit *f, int32_t n, dls_step_stats *stats) {
    (void)user;
    return dls_train_step_data(f->train, f->data, &f->d.augment, f->index, n, stats);
}
DLSI_FN dls_status dlsi_fit_loop(dlsi_fit *f, dlsi_fit_step_fn step, void *user, bool saves,
                                 dls_fit_report *report) {
    dls_status st = DLS_OK;
    f->start = f->reported = dls_now_us();
    while (st == DLS_OK && f->train->step < f->steps) {
        const int32_t n = dlsi_fit_samples(f, f->train->step);
        dls_step_stats stats;
        DLSI_ZERO(stats);
        st = step(user, f, n, &stats);
        if (st != DLS_OK && st != DLS_E_STOPPED) break; /* stopped: after the step, on all peers */
        dlsi_fit_count(f, &stats, report, n);
        if (!dlsi_fit_report(f)) st = DLS_E_STOPPED;
        if (saves && f->d.checkpoint != NULL && f->d.checkpoint_every > 0 &&
            f->train->step % f->d.checkpoint_every == 0 && st == DLS_OK)
            st = dlsi_fit_save(f->train, f->d.checkpoint);
    }
    if (saves && f->d.checkpoint != NULL && (st == DLS_OK || st == DLS_E_STOPPED)) {
        const dls_status saved = dlsi_fit_save(f->train, f->d.checkpoint);
        if (saved != DLS_OK) st = saved;
    }
    report->seconds = (double)(dls_now_us() - f->start) * 1e-6;
    report->samples_per_s = report->seconds > 0 ? (double)report->samples / report->seconds : 0.0;
    report->epochs = (int32_t)(f->train->step / f->per_epoch);
    report->loss = f->epoch_since > 0 ? f->epoch_loss / (double)f->epoch_since : 0.0;
    report->accuracy = f->epoch_since > 0 ? f->epoch_accuracy / (double)f->epoch_since : 0.0;
    report->state_hash = dls_train_hash(f->train);
    return st;
}
DLS_API dls_status dls_fit(dls_net *net, const dls_data *data, const dls_fit_desc *desc,
                           dls_fit_report *report) {
    dls_fit_report own;
    dlsi_fit f;
    dls_status st;
    if (report == NULL) report = &own;
    memset(report, 0, sizeof *report);
    DLSI_ZERO(f);
    st = dlsi_fit_open(&f, net, data, desc);
    if (st == DLS_OK && desc->resume != NULL) st = dlsi_fit_resume(f.train, desc->resume);
    if (st == DLS_OK) st = dlsi_fit_loop(&f, dlsi_fit_own_step, NULL, true, report);
    if (f.train != NULL && st != DLS_OK && net->plan_error.status == DLS_OK)
        net->plan_error = f.train->exec->error;
    dlsi_fit_close(&f);
    return st;
}
DLS_API dls_status dls_eval(dls_net *net, const dls_data *data, const dls_loss_desc *loss,
                            int32_t batch, dls_pool *pool, dls_eval_report *report) {
    const uint64_t start = dls_now_us();
    const dls_shape y = dls_net_shape(net, dls_net_output_of(net));
    dls_exec_desc d;
    dls_exec *exec;
    dls_loss_sums sums;
    dls_loss_desc plain;
    dls_target target;
    int32_t *index, *label, i, k;
    dls_real *values;
    dls_status st = DLS_OK;
    memset(report, 0, sizeof *report);
    DLSI_ZERO(d);
    DLSI_ZERO(sums);
    DLSI_ZERO(plain);
    if (loss == NULL) loss = &plain;
    d.batch = dlsi_or(batch, 64);
    d.pool = pool;
    exec = dls_exec_create(net, &d);
    if (exec == NULL)
        return dls_net_error(net)->status != DLS_OK ? dls_net_error(net)->status : DLS_E_MEMORY;
    index = (int32_t *)DLS_MALLOC((size_t)d.batch * 2 * sizeof *index);
    values = (dls_real *)DLS_MALLOC(((size_t)d.batch * (size_t)dlsi_max_i32(data->values_each, 1)) *
                                    sizeof *values);
    if (index == NULL || values == NULL) st = DLS_E_MEMORY;
    if (st == DLS_OK &&
        (dls_exec_input(exec, 0) == NULL ||
         dlsi_count(data->shape) != dlsi_count(dls_net_shape(net, dls_exec_input_val(exec, 0))) ||
         (data->values != NULL && (size_t)data->values_each != dlsi_count(y)) ||
         (data->label != NULL && (y.h != 1 || y.w != 1))))
        st = dlsi_fail(&net->plan_error, DLS_E_SHAPE,
                       DLSI_MSG("samples of {0} elements or their targets do not fit the network"),
                       NULL, (int32_t)dlsi_count(data->shape), 0, 0);
    label = index != NULL ? index + d.batch : NULL;
    for (i = 0; st == DLS_OK && i < data->count; i += d.batch) {
        const int32_t n = dlsi_min_i32(d.batch, data->count - i);
        for (k = 0; k < n; k++) index[k] = i + k;
        DLSI_ZERO(target);
        target.label = data->label != NULL ? label : NULL;
        target.values = data->values != NULL ? values : NULL;
        st = dls_data_fetch(data, NULL, 0, index, n, dls_exec_input(exec, 0),
                            data->label != NULL ? label : NULL, NULL, NULL,
                            data->values != NULL ? values : NULL);
        if (st == DLS_OK) st = dls_exec_forward(exec, n);
        if (st == DLS_OK)
            st = dls_loss(&exec->cx, loss, n, y, dls_exec_output(exec), &target, 1.0, NULL, &sums);
    }
    if (index != NULL) DLS_FREE(index);
    if (values != NULL) DLS_FREE(values);
    if (st != DLS_OK && net->plan_error.status == DLS_OK) net->plan_error = exec->error;
    dls_exec_destroy(exec);
    report->samples = (int32_t)sums.positions;
    if (sums.positions > 0) {
        report->loss = sums.loss / sums.positions;
        report->accuracy = sums.correct / sums.positions;
    }
    report->seconds = (double)(dls_now_us() - start) * 1e-6;
    return st;
}

/* ---- Gradient check ---- */

typedef struct dlsi_check {
    dls_exec *exec;
    dls_real *r; /* what the outputs are weighted by */
    int32_t n;
    uint64_t seed;
    double eps;
    int32_t probes;
    dls_grad_report *report;
} dlsi_check;
DLSI_FN double dlsi_check_value(dlsi_check *c, dls_status *st) {
    const dls_real *y;
    const size_t n = (size_t)c->n * dlsi_count(dls_net_shape(c->exec->net, c->exec->output));
    double sum = 0.0;
    size_t i;
    *st = dls_exec_forward_train(c->exec, c->n, c->seed, 0, c->n);
    y = dls_exec_output(c->exec);
    for (i = 0; *st == DLS_OK && i < n; i++) sum += (double)y[i] * (double)c->r[i];
    return sum;
}
/* Compares at probes elements of w, whose analytic gradient is g. x: the executor's inputs, to be
   restored before each run (NULL: none needs it). */
DLSI_FN dls_status dlsi_check_tensor(dlsi_check *c, dls_real *w, const dls_real *g, size_t count,
                                     dls_real **x, int32_t node, int32_t index) {
    const int32_t probes = (int32_t)dlsi_min_size(count, (size_t)c->probes);
    dls_status st = DLS_OK;
    int32_t i, sign, k;
    for (i = 0; i < probes && st == DLS_OK; i++) {
        const size_t at =
            (size_t)probes == count ? (size_t)i : (size_t)dls_rand_at(c->seed, (uint32_t)i) % count;
        const dls_real keep = w[at];
        double value[2] = {0, 0}, numeric, error, size;
        for (sign = 0; sign < 2 && st == DLS_OK; sign++) {
            w[at] = (dls_real)((double)keep + (sign == 0 ? c->eps : -c->eps));
            for (k = 0; x != NULL && dls_exec_input(c->exec, k) != NULL; k++)
                memcpy(dls_exec_input(c->exec, k), x[k],
                       (size_t)c->n *
                           dlsi_count(dls_net_shape(c->exec->net, dls_exec_input_val(c->exec, k))) *
                           sizeof(dls_real));
            value[sign] = dlsi_check_value(c, &st);
        }
        w[at] = keep;
        numeric = (value[0] - value[1]) / (2.0 * c->eps);
        error = numeric - (double)g[at];
        if (error < 0) error = -error;
        size = numeric < 0 ? -numeric : numeric;
        if ((double)g[at] > size) size = (double)g[at];
        if (-(double)g[at] > size) size = -(double)g[at];
        error /= size > 1.0 ? size : 1.0;
        if (error > c->report->worst || error != error) {
            c->report->worst = error != error ? 1e300 : error;
            c->report->node = node;
            c->report->index = index;
            c->report->element = at;
        }
    }
    return st;
}
/* Random inputs into x[], and weights of outputs. Integers: ids for the embedding that reads them.
   */
DLSI_FN void dlsi_check_fill(dlsi_check *c, dls_real **x) {
    const dls_net *net = c->exec->net;
    dls_rng rng;
    size_t i, n;
    int32_t k, j, most = 2;
    rng.seed = dlsi_seed(c->seed, 77);
    rng.next = 0;
    for (k = 0; x[k] != NULL; k++) {
        const dls_val v = dls_exec_input_val(c->exec, k);
        n = (size_t)c->n * dlsi_count(dls_net_shape(net, v));
        for (j = 0; j < net->nodes; j++)
            if (net->node[j].inputs > 0 && net->node[j].in[0] == v && net->node[j].params > 0)
                most = net->node[j].attr.i[0];
        for (i = 0; i < n; i++) {
            if (net->node[v].dtype == (uint8_t)DLS_I32)
                ((int32_t *)x[k])[i] = dlsi_draw(&rng, most);
            else
                x[k][i] = (dls_real)dls_rng_normal(&rng);
        }
    }
    n = (size_t)c->n * dlsi_count(dls_net_shape(net, c->exec->output));
    for (i = 0; i < n; i++) c->r[i] = (dls_real)dls_rng_normal(&rng);
}
DLSI_FN void dlsi_check_restore(dlsi_check *c, dls_real **x) {
    int32_t k;
    for (k = 0; x[k] != NULL; k++) {
        const dls_val v = dls_exec_input_val(c->exec, k);
        memcpy(dls_exec_input(c->exec, k), x[k],
               (size_t)c->n * dlsi_count(dls_net_shape(c->exec->net, v)) *
                   dls_dtype_bytes((dls_dtype)c->exec->net->node[v].dtype));
    }
}
DLSI_FN dls_status dlsi_check_run(dlsi_check *c, dls_real **x, dls_real *grads) {
    dls_net *net = c->exec->net;
    dls_status st;
    int32_t i, p, k;
    dlsi_check_fill(c, x);
    dlsi_check_restore(c, x);
    (void)dlsi_check_value(c, &st);
    if (st != DLS_OK) return st;
    memcpy(dls_exec_output_grad(c->exec), c->r,
           dlsi_reals((size_t)c->n * dlsi_count(dls_net_shape(net, c->exec->output))));
    st = dls_exec_backward(c->exec, false);
    if (st != DLS_OK) return st;
    memcpy(grads, c->exec->grads,
           dlsi_reals(net->param_count)); /* forward may not, but backward does, write them */
    for (i = 0; i < net->nodes && st == DLS_OK; i++) {
        dls_op_spec spec;
        dlsi_net_spec(net, i, NULL, 1, false, &spec);
        for (p = 0; p < net->node[i].params && st == DLS_OK; p++) {
            if ((spec.param[p].flags & DLS_PARAM_STATISTIC) != 0) continue;
            st = dlsi_check_tensor(c, net->params + dlsi_param_at(&net->node[i], p),
                                   grads + dlsi_param_at(&net->node[i], p),
                                   net->node[i].param_count[p], x, i, p);
        }
    }
    for (k = 0; x[k] != NULL && st == DLS_OK; k++) {
        const dls_val v = dls_exec_input_val(c->exec, k);
        const size_t n = (size_t)c->n * dlsi_count(dls_net_shape(net, v));
        dls_real *copy;
        if (dls_exec_input_grad(c->exec, k) == NULL) continue;
        dlsi_check_restore(c, x); /* the gradients once more: numeric runs reuse memory */
        (void)dlsi_check_value(c, &st);
        memcpy(dls_exec_output_grad(c->exec), c->r,
               dlsi_reals((size_t)c->n * dlsi_count(dls_net_shape(net, c->exec->output))));
        if (st == DLS_OK) st = dls_exec_backward(c->exec, false);
        copy = dlsi_heap_reals(n);
        if (copy == NULL) return DLS_E_MEMORY;
        memcpy(copy, dls_exec_input_grad(c->exec, k), dlsi_reals(n));
        if (st == DLS_OK) st = dlsi_check_tensor(c, x[k], copy, n, x, -1, k);
        DLS_FREE(copy);
    }
    return st;
}
DLS_API dls_status dls_grad_check(dls_net *net, int32_t n, uint64_t seed, double eps,
                                  int32_t probes, dls_grad_report *report) {
    dls_real *x[9], *grads = NULL;
    dls_exec_desc d;
    dlsi_check c;
    dls_status st = dlsi_net_need_params(net, true);
    int32_t k;
    memset(report, 0, sizeof *report);
    memset(x, 0, sizeof x);
    DLSI_ZERO(d);
    DLSI_ZERO(c);
    if (st != DLS_OK) return st;
    d.batch = n;
    d.train = d.input_grad = true;
    c.exec = dls_exec_create(net, &d);
    if (c.exec == NULL)
        return dls_net_error(net)->status != DLS_OK ? dls_net_error(net)->status : DLS_E_MEMORY;
    c.n = n;
    c.seed = seed;
    c.eps = eps > 0 ? eps : DLS_REAL64 ? 1e-5 : 1e-2;
    c.probes = dlsi_or(probes, 64);
    c.report = report;
    c.r = (dls_real *)DLS_MALLOC(
        dlsi_reals((size_t)n * dlsi_count(dls_net_shape(net, c.exec->output))));
    grads = dlsi_heap_reals(net->param_count + 1);
    if (c.r == NULL || grads == NULL) st = DLS_E_MEMORY;
    for (k = 0; k < 8 && st == DLS_OK && dls_exec_input(c.exec, k) != NULL; k++) {
        x[k] = (dls_real *)DLS_MALLOC(
            dlsi_reals((size_t)n * dlsi_count(dls_net_shape(net, dls_exec_input_val(c.exec, k)))));
        if (x[k] == NULL) st = DLS_E_MEMORY;
    }
    if (st == DLS_OK && dls_exec_output_grad(c.exec) == NULL) st = DLS_E_STATE;
    if (st == DLS_OK) st = dlsi_check_run(&c, x, grads);
    for (k = 0; k < 8; k++)
        if (x[k] != NULL) DLS_FREE(x[k]);
    if (c.r != NULL) DLS_FREE(c.r);
    if (grads != NULL) DLS_FREE(grads);
    dls_exec_destroy(c.exec);
    return st;
}
#endif
#endif /* DLS_ENABLE_TRAIN */

#if DLS_ENABLE_PEERS
/* ------------------------------------------------------------------------------------------------
   >>crypt.impl  deps: config base port crypt.api
   Numbers are arrays of limbs, least first, every limb full: 4 of 64 bits where the compiler has a
   128-bit product, else 8 of 32 bits (a row is then umull or umaal). One text serves both. */

#ifndef DLSI_LIMB_BITS
#if defined(__SIZEOF_INT128__)
#define DLSI_LIMB_BITS 64
#else
#define DLSI_LIMB_BITS 32
#endif
#endif
#if DLSI_LIMB_BITS == 64
typedef uint64_t dlsi_limb;
typedef unsigned dlsi_wide __attribute__((mode(TI)));
DLSI_INLINE dlsi_limb dlsi_limb_load(const unsigned char *p) { return dlsi_load64(p); }
DLSI_INLINE void dlsi_limb_store(unsigned char *p, dlsi_limb x) { dlsi_store64(p, x); }
#else
typedef uint32_t dlsi_limb;
typedef uint64_t dlsi_wide;
DLSI_INLINE dlsi_limb dlsi_limb_load(const unsigned char *p) { return dlsi_load32(p); }
DLSI_INLINE void dlsi_limb_store(unsigned char *p, dlsi_limb x) { dlsi_store32(p, x); }
#endif
#define DLSI_LIMBS (256 / DLSI_LIMB_BITS)
#define DLSI_LIMB_BYTES (DLSI_LIMB_BITS / 8)

/* What the compiler must not know the value of: else it may branch on it. */
#if defined(__GNUC__)
DLSI_INLINE dlsi_limb dlsi_hide(dlsi_limb x) {
    __asm__("" : "+r"(x));
    return x;
}
#else
DLSI_INLINE dlsi_limb dlsi_hide(dlsi_limb x) { return x; }
#endif
/* All ones for 1, zero for 0. */
DLSI_INLINE dlsi_limb dlsi_mask(dlsi_limb bit) { return dlsi_hide((dlsi_limb)(0 - bit)); }

#ifndef DLS_MEMZERO
#if defined(__GNUC__)
DLSI_FN void dlsi_memzero(void *mem, size_t bytes) {
    memset(mem, 0, bytes);
    __asm__ volatile("" : : "r"(mem) : "memory");
}
#else
DLSI_FN void dlsi_memzero(void *mem, size_t bytes) {
    volatile unsigned char *p = (volatile unsigned char *)mem;
    while (bytes-- > 0) *p++ = 0;
}
#endif
#define DLS_MEMZERO(mem, bytes) dlsi_memzero(mem, bytes)
#endif
DLS_API void dls_wipe(void *mem, size_t bytes) {
    if (bytes > 0) DLS_MEMZERO(mem, bytes);
}
#define DLSI_WIPE(object) dls_wipe(&(object), sizeof(object))

DLS_API bool dls_equal(const void *a, const void *b, size_t bytes) {
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
    dlsi_limb differ = 0;
    while (bytes-- > 0) differ |= (dlsi_limb)(*p++ ^ *q++);
    return dlsi_hide(differ) == 0;
}

/* ---- Long numbers ---- */

/* r += a w, n limbs of both; returns the limb above. */
DLSI_INLINE dlsi_limb dlsi_row(dlsi_limb *r, const dlsi_limb *a, int n, dlsi_limb w) {
    dlsi_limb carry = 0;
    int i;
    DLSI_UNROLL
    for (i = 0; i < n; i++) {
        const dlsi_wide t = (dlsi_wide)a[i] * w + r[i] + carry;
        r[i] = (dlsi_limb)t;
        carry = (dlsi_limb)(t >> DLSI_LIMB_BITS);
    }
    return carry;
}
/* r += w; returns the carry. */
DLSI_INLINE dlsi_limb dlsi_long_add_limb(dlsi_limb *r, int n, dlsi_limb w) {
    int i;
    DLSI_UNROLL
    for (i = 0; i < n; i++) {
        r[i] += w;
        w = r[i] < w;
    }
    return w;
}
/* r = a + b; returns the carry. */
DLSI_INLINE dlsi_limb dlsi_long_add(dlsi_limb *r, const dlsi_limb *a, const dlsi_limb *b, int n) {
    dlsi_limb carry = 0;
    int i;
    DLSI_UNROLL
    for (i = 0; i < n; i++) {
        const dlsi_wide t = (dlsi_wide)a[i] + b[i] + carry;
        r[i] = (dlsi_limb)t;
        carry = (dlsi_limb)(t >> DLSI_LIMB_BITS);
    }
    return carry;
}
/* r = a - b; returns the borrow, 0 or 1. */
DLSI_INLINE dlsi_limb dlsi_long_sub(dlsi_limb *r, const dlsi_limb *a, const dlsi_limb *b, int n) {
    dlsi_limb borrow = 0;
    int i;
    DLSI_UNROLL
    for (i = 0; i < n; i++) {
        const dlsi_wide t = (dlsi_wide)a[i] - b[i] - borrow;
        r[i] = (dlsi_limb)t;
        borrow = (dlsi_limb)(t >> DLSI_LIMB_BITS) & 1u;
    }
    return borrow;
}
/* r = a b; r: twice as long as a and b. */
DLSI_INLINE void dlsi_long_mul(dlsi_limb *r, const dlsi_limb *a, const dlsi_limb *b) {
    int i;
    memset(r, 0, 2 * DLSI_LIMBS * sizeof *r);
    DLSI_UNROLL
    for (i = 0; i < DLSI_LIMBS; i++) r[i + DLSI_LIMBS] = dlsi_row(r + i, b, DLSI_LIMBS, a[i]);
}
/* r = a where mask is all ones. */
DLSI_FN void dlsi_long_select(dlsi_limb *r, const dlsi_limb *a, int n, dlsi_limb mask) {
    int i;
    for (i = 0; i < n; i++) r[i] ^= (r[i] ^ a[i]) & mask;
}
DLSI_FN void dlsi_long_load(dlsi_limb *r, const unsigned char *from, int n) {
    int i;
    for (i = 0; i < n; i++) r[i] = dlsi_limb_load(from + i * DLSI_LIMB_BYTES);
}
DLSI_FN void dlsi_long_store(unsigned char *to, const dlsi_limb *a, int n) {
    int i;
    for (i = 0; i < n; i++) dlsi_limb_store(to + i * DLSI_LIMB_BYTES, a[i]);
}

/* ---- The field of 2^255 - 19 ----
   An element is any number below 2^256; 2^256 = 38 (mod p). */

typedef dlsi_limb dlsi_fe[DLSI_LIMBS];

/* r += 2^256 c, for c < 2^25. When that carries, what is left is below 38 c: no third carry. */
DLSI_INLINE void dlsi_fe_carry(dlsi_limb *r, dlsi_limb c) {
    r[0] += 38 * dlsi_long_add_limb(r, DLSI_LIMBS, 38 * c);
}
DLSI_FN void dlsi_fe_add(dlsi_limb *r, const dlsi_limb *a, const dlsi_limb *b) {
    dlsi_fe_carry(r, dlsi_long_add(r, a, b, DLSI_LIMBS));
}
DLSI_FN void dlsi_fe_sub(dlsi_limb *r, const dlsi_limb *a, const dlsi_limb *b) {
    dlsi_fe less = {38};
    less[0] *= dlsi_long_sub(r, a, b, DLSI_LIMBS);
    r[0] -= 38 * dlsi_long_sub(r, r, less, DLSI_LIMBS);
}
DLSI_FN void dlsi_fe_mul(dlsi_limb *r, const dlsi_limb *a, const dlsi_limb *b) {
    dlsi_limb t[2 * DLSI_LIMBS];
    dlsi_long_mul(t, a, b);
    dlsi_fe_carry(t, dlsi_row(t, t + DLSI_LIMBS, DLSI_LIMBS, 38));
    memcpy(r, t, sizeof(dlsi_fe));
}
DLSI_FN void dlsi_fe_set(dlsi_limb *r, dlsi_limb small) {
    memset(r, 0, sizeof(dlsi_fe));
    r[0] = small;
}
/* Squares n times. */
DLSI_FN void dlsi_fe_squares(dlsi_limb *r, const dlsi_limb *a, int n) {
    memmove(r, a, sizeof(dlsi_fe));
    while (n-- > 0) dlsi_fe_mul(r, r, r);
}
/* r = a^(2^252 - 3): with it come inverses and square roots. From a^(2^n - 1) to n of 2n, and of
   n + 1, along the bits of 250. r is not a. */
DLSI_FN void dlsi_fe_power(dlsi_limb *r, const dlsi_limb *a) {
    dlsi_fe t;
    int n = 1, bit;
    memcpy(r, a, sizeof(dlsi_fe));
    for (bit = 64; bit > 0; bit >>= 1) {
        dlsi_fe_squares(t, r, n);
        dlsi_fe_mul(r, r, t);
        n *= 2;
        if ((250 & bit) == 0) continue;
        dlsi_fe_squares(r, r, 1);
        dlsi_fe_mul(r, r, a);
        n++;
    }
    dlsi_fe_squares(r, r, 2);
    dlsi_fe_mul(r, r, a);
}
/* r = 1 / a, 0 of 0: p - 2 = 8 (2^252 - 3) + 3. r is not a. */
DLSI_FN void dlsi_fe_invert(dlsi_limb *r, const dlsi_limb *a) {
    dlsi_fe_power(r, a);
    dlsi_fe_squares(r, r, 3);
    dlsi_fe_mul(r, r, a);
    dlsi_fe_mul(r, r, a);
    dlsi_fe_mul(r, r, a);
}
/* Ignores the top bit. */
DLSI_FN void dlsi_fe_load(dlsi_limb *r, const unsigned char *from32) {
    dlsi_long_load(r, from32, DLSI_LIMBS);
    r[DLSI_LIMBS - 1] &= (dlsi_limb)-1 >> 1;
}
/* The one form below p. The top bit is worth 19; then adding 19 shows whether p or more is left. */
DLSI_FN void dlsi_fe_store(unsigned char *to32, const dlsi_limb *a) {
    const int top = DLSI_LIMBS - 1, last = DLSI_LIMB_BITS - 1;
    dlsi_fe t, more;
    memcpy(t, a, sizeof t);
    t[top] &= (dlsi_limb)-1 >> 1;
    (void)dlsi_long_add_limb(t, DLSI_LIMBS, 19 * (a[top] >> last));
    memcpy(more, t, sizeof t);
    (void)dlsi_long_add_limb(more, DLSI_LIMBS, 19);
    (void)dlsi_long_add_limb(t, DLSI_LIMBS, 19 * (more[top] >> last));
    t[top] &= (dlsi_limb)-1 >> 1;
    dlsi_long_store(to32, t, DLSI_LIMBS);
}

/* ---- X25519 ---- */

#ifndef DLS_X25519
DLSI_FN void dlsi_fe_swap(dlsi_limb *a, dlsi_limb *b, dlsi_limb mask) {
    int i;
    for (i = 0; i < DLSI_LIMBS; i++) {
        const dlsi_limb t = (a[i] ^ b[i]) & mask;
        a[i] ^= t;
        b[i] ^= t;
    }
}
/* One step of the ladder of RFC 7748 section 5: doubles (x2 : z2), adds it to (x3 : z3). */
DLSI_FN void dlsi_x25519_step(const dlsi_limb *x1, dlsi_limb *x2, dlsi_limb *z2, dlsi_limb *x3,
                              dlsi_limb *z3) {
    dlsi_fe a, b, e;
    dlsi_fe_add(a, x2, z2);
    dlsi_fe_sub(b, x2, z2);
    dlsi_fe_add(e, x3, z3);
    dlsi_fe_sub(z3, x3, z3);
    dlsi_fe_mul(z3, z3, a); /* da */
    dlsi_fe_mul(e, e, b);   /* cb */
    dlsi_fe_add(x3, z3, e);
    dlsi_fe_sub(z3, z3, e);
    dlsi_fe_mul(x3, x3, x3);
    dlsi_fe_mul(z3, z3, z3);
    dlsi_fe_mul(z3, z3, x1);
    dlsi_fe_mul(a, a, a);
    dlsi_fe_mul(b, b, b);
    dlsi_fe_mul(x2, a, b);
    dlsi_fe_sub(e, a, b);
    dlsi_fe_carry(a, dlsi_row(a, e, DLSI_LIMBS, 121665));
    dlsi_fe_mul(z2, e, a);
}
DLSI_FN void dlsi_x25519(unsigned char *out32, const unsigned char *secret32,
                         const unsigned char *public32) {
    struct {
        dlsi_fe x1, x2, z2, x3, z3;
        unsigned char k[32];
        dlsi_limb last;
    } s;
    int i;
    dlsi_fe_load(s.x1, public32);
    memcpy(s.k, secret32, 32);
    s.k[0] &= 248u;
    s.k[31] = (unsigned char)((s.k[31] & 63u) | 64u);
    dlsi_fe_set(s.x2, 1);
    dlsi_fe_set(s.z2, 0);
    memcpy(s.x3, s.x1, sizeof(dlsi_fe));
    dlsi_fe_set(s.z3, 1);
    s.last = 0;
    for (i = 254; i >= 0; i--) { /* swapped when the bit differs from the last one */
        const dlsi_limb bit = (dlsi_limb)(s.k[i >> 3] >> (i & 7)) & 1u;
        const dlsi_limb mask = dlsi_mask(bit ^ s.last);
        dlsi_fe_swap(s.x2, s.x3, mask);
        dlsi_fe_swap(s.z2, s.z3, mask);
        s.last = bit;
        dlsi_x25519_step(s.x1, s.x2, s.z2, s.x3, s.z3);
    } /* the last bit is 0 by clamping: nothing to swap back */
    dlsi_fe_invert(s.z3, s.z2);
    dlsi_fe_mul(s.x2, s.x2, s.z3);
    dlsi_fe_store(out32, s.x2);
    DLSI_WIPE(s);
}
#define DLS_X25519(out32, secret32, public32) dlsi_x25519(out32, secret32, public32)
#endif

DLS_API dls_status dls_x25519(unsigned char *out32, const unsigned char *secret32,
                              const unsigned char *public32) {
    static const unsigned char zero[32] = {0};
    DLS_X25519(out32, secret32, public32);
    return dls_equal(out32, zero, 32) ? DLS_E_AUTH : DLS_OK;
}
DLS_API void dls_x25519_public(unsigned char *public32, const unsigned char *secret32) {
    static const unsigned char base[32] = {9};
    DLS_X25519(public32, secret32, base);
}

/* ---- ChaCha20-Poly1305 ---- */

/* Ten double rounds. Column rounds take words i, i + 4, i + 8, i + 12, diagonal rounds one more to
   the right in each row. */
DLSI_INLINE void dlsi_chacha_quarter(uint32_t *x, int a, int b, int c, int d) {
    x[a] += x[b];
    x[d] ^= x[a];
    x[d] = x[d] << 16 | x[d] >> 16;
    x[c] += x[d];
    x[b] ^= x[c];
    x[b] = x[b] << 12 | x[b] >> 20;
    x[a] += x[b];
    x[d] ^= x[a];
    x[d] = x[d] << 8 | x[d] >> 24;
    x[c] += x[d];
    x[b] ^= x[c];
    x[b] = x[b] << 7 | x[b] >> 25;
}
#if DLSI_SMALL
DLSI_FN void dlsi_chacha_rounds(uint32_t *x) {
    int i;
    for (i = 0; i < 80; i++) {
        const int right = i >> 2 & 1;
        dlsi_chacha_quarter(x, i & 3, 4 + ((i + right) & 3), 8 + ((i + 2 * right) & 3),
                            12 + ((i + 3 * right) & 3));
    }
}
#else
DLSI_FN void dlsi_chacha_rounds(uint32_t *x) {
    int i;
    for (i = 0; i < 10; i++) {
        dlsi_chacha_quarter(x, 0, 4, 8, 12);
        dlsi_chacha_quarter(x, 1, 5, 9, 13);
        dlsi_chacha_quarter(x, 2, 6, 10, 14);
        dlsi_chacha_quarter(x, 3, 7, 11, 15);
        dlsi_chacha_quarter(x, 0, 5, 10, 15);
        dlsi_chacha_quarter(x, 1, 6, 11, 12);
        dlsi_chacha_quarter(x, 2, 7, 8, 13);
        dlsi_chacha_quarter(x, 3, 4, 9, 14);
    }
}
#endif

/* RFC 8439 2.3: constants, key, counter 0, nonce. */
DLSI_FN void dlsi_chacha_init(uint32_t *state, const unsigned char *nonce12,
                              const unsigned char *key32) {
    int i;
    state[0] = 0x61707865u; /* "expand 32-byte k" */
    state[1] = 0x3320646Eu;
    state[2] = 0x79622D32u;
    state[3] = 0x6B206574u;
    for (i = 0; i < 8; i++) state[4 + i] = dlsi_load32(key32 + 4 * i);
    state[12] = 0;
    for (i = 0; i < 3; i++) state[13 + i] = dlsi_load32(nonce12 + 4 * i);
}
/* The next 64 bytes of key stream. */
DLSI_FN void dlsi_chacha_block(uint32_t *state, unsigned char *to64) {
    uint32_t x[16];
    int i;
    memcpy(x, state, sizeof x);
    dlsi_chacha_rounds(x);
    for (i = 0; i < 16; i++) dlsi_store32(to64 + 4 * i, x[i] + state[i]);
    state[12]++;
}
DLSI_FN void dlsi_xor(unsigned char *to, const unsigned char *a, const unsigned char *b,
                      size_t bytes) {
    size_t i;
    for (i = 0; i < bytes; i++) to[i] = (unsigned char)(a[i] ^ b[i]);
}
DLSI_FN void dlsi_chacha_xor(uint32_t *state, unsigned char *to, const unsigned char *from,
                             size_t bytes) {
    unsigned char key[64];
    while (bytes > 0) {
        const size_t n = dlsi_min_size(bytes, sizeof key);
        dlsi_chacha_block(state, key);
        dlsi_xor(to, from, key, n);
        to += n;
        from += n;
        bytes -= n;
    }
    DLSI_WIPE(key);
}

/* h = (h + block + 2^128) r mod 2^130 - 5 for each block; h stays below 2^131. The RFC's r has the
   low two bits of each 32-bit word but the first clear, so 5 r / 4 is exact where it is used. */
#define DLSI_POLY_LIMBS (128 / DLSI_LIMB_BITS)
typedef struct dlsi_poly {
    dlsi_limb h[DLSI_POLY_LIMBS + 1], r[DLSI_POLY_LIMBS], pad[DLSI_POLY_LIMBS];
} dlsi_poly;

DLSI_FN void dlsi_poly_init(dlsi_poly *p, const unsigned char *key32) {
    static const unsigned char clamp[16] = {255, 255, 255, 15, 252, 255, 255, 15,
                                            252, 255, 255, 15, 252, 255, 255, 15};
    dlsi_limb mask[DLSI_POLY_LIMBS];
    int i;
    DLSI_ZERO(p->h);
    dlsi_long_load(p->r, key32, DLSI_POLY_LIMBS);
    dlsi_long_load(p->pad, key32 + 16, DLSI_POLY_LIMBS);
    dlsi_long_load(mask, clamp, DLSI_POLY_LIMBS);
    for (i = 0; i < DLSI_POLY_LIMBS; i++) p->r[i] &= mask[i];
}
#if DLSI_LIMB_BITS == 64
DLSI_FN void dlsi_poly_blocks(dlsi_poly *p, const unsigned char *from, size_t blocks) {
    const uint64_t r0 = p->r[0], r1 = p->r[1], s1 = r1 + (r1 >> 2);
    uint64_t h0 = p->h[0], h1 = p->h[1], h2 = p->h[2], c;
    dlsi_wide d0, d1;
    for (; blocks > 0; blocks--, from += 16) {
        d0 = (dlsi_wide)h0 + dlsi_load64(from);
        d1 = (dlsi_wide)h1 + (d0 >> 64) + dlsi_load64(from + 8);
        h0 = (uint64_t)d0;
        h1 = (uint64_t)d1;
        h2 += (uint64_t)(d1 >> 64) + 1;
        d0 = (dlsi_wide)h0 * r0 + (dlsi_wide)h1 * s1;
        d1 = (dlsi_wide)h0 * r1 + (dlsi_wide)h1 * r0 + h2 * s1 + (d0 >> 64);
        h2 = h2 * r0 + (uint64_t)(d1 >> 64);
        c = (h2 & ~(uint64_t)3) + (h2 >> 2); /* 2^130 = 5 */
        d0 = (dlsi_wide)(uint64_t)d0 + c;
        d1 = (dlsi_wide)(uint64_t)d1 + (d0 >> 64);
        h0 = (uint64_t)d0;
        h1 = (uint64_t)d1;
        h2 = (h2 & 3) + (uint64_t)(d1 >> 64);
    }
    p->h[0] = h0;
    p->h[1] = h1;
    p->h[2] = h2;
}
#else
DLSI_FN void dlsi_poly_blocks(dlsi_poly *p, const unsigned char *from, size_t blocks) {
    enum { N = DLSI_POLY_LIMBS };
    dlsi_limb t[2 * N + 1], m[N];
    int i;
    for (; blocks > 0; blocks--, from += 16) {
        dlsi_long_load(m, from, N);
        p->h[N] += 1 + dlsi_long_add(p->h, p->h, m, N);
        DLSI_ZERO(t);
        for (i = 0; i <= N; i++) t[i + N] = dlsi_row(t + i, p->r, N, p->h[i]);
        memcpy(p->h, t, sizeof p->h);
        p->h[N] &= 3; /* above it 2^130 = 5: add that part times 4, then times 1 */
        t[N] &= ~(dlsi_limb)3;
        p->h[N] += dlsi_long_add(p->h, p->h, t + N, N);
        for (i = N; i < 2 * N; i++) t[i] = t[i] >> 2 | t[i + 1] << (DLSI_LIMB_BITS - 2);
        p->h[N] += dlsi_long_add(p->h, p->h, t + N, N);
    }
}
#endif
/* Bytes, padded with zeros to whole blocks, as the AEAD has it. */
DLSI_FN void dlsi_poly_padded(dlsi_poly *p, const unsigned char *from, size_t bytes) {
    unsigned char last[16];
    dlsi_poly_blocks(p, from, bytes / 16);
    if (bytes % 16 == 0) return;
    DLSI_ZERO(last);
    memcpy(last, from + bytes / 16 * 16, bytes % 16);
    dlsi_poly_blocks(p, last, 1);
}
/* The lengths, h mod 2^130 - 5, plus pad. */
DLSI_FN void dlsi_poly_final(dlsi_poly *p, size_t ad_bytes, size_t bytes, unsigned char *tag16) {
    enum { N = DLSI_POLY_LIMBS };
    unsigned char sizes[16];
    dlsi_limb g[N + 1];
    dlsi_store64(sizes, ad_bytes);
    dlsi_store64(sizes + 8, bytes);
    dlsi_poly_blocks(p, sizes, 1);
    memcpy(g, p->h, sizeof g); /* twice: h may be nearly 2^131 */
    (void)dlsi_long_add_limb(g, N + 1, 5);
    (void)dlsi_long_add_limb(p->h, N + 1, 5 * (g[N] >> 2));
    (void)dlsi_long_add(p->h, p->h, p->pad, N);
    dlsi_long_store(tag16, p->h, N);
    DLSI_WIPE(*p);
}

#if !defined(DLS_AEAD_SEAL) || !defined(DLS_AEAD_OPEN)
/* The first block keys Poly1305, the rest is key stream. */
DLSI_FN void dlsi_aead_start(uint32_t *state, dlsi_poly *p, const void *ad, size_t ad_bytes,
                             const unsigned char *nonce12, const unsigned char *key32) {
    unsigned char key[64];
    dlsi_chacha_init(state, nonce12, key32);
    dlsi_chacha_block(state, key);
    dlsi_poly_init(p, key);
    DLSI_WIPE(key);
    dlsi_poly_padded(p, (const unsigned char *)ad, ad_bytes);
}
DLSI_FN void dlsi_aead_seal(void *to, unsigned char *tag16, const void *from, size_t bytes,
                            const void *ad, size_t ad_bytes, const unsigned char *nonce12,
                            const unsigned char *key32) {
    uint32_t state[16];
    dlsi_poly p;
    dlsi_aead_start(state, &p, ad, ad_bytes, nonce12, key32);
    dlsi_chacha_xor(state, (unsigned char *)to, (const unsigned char *)from, bytes);
    dlsi_poly_padded(&p, (const unsigned char *)to, bytes);
    dlsi_poly_final(&p, ad_bytes, bytes, tag16);
    DLSI_WIPE(state);
}
/* Decrypts only what is authentic. */
DLSI_FN int dlsi_aead_open(void *to, const void *from, size_t bytes, const unsigned char *tag16,
                           const void *ad, size_t ad_bytes, const unsigned char *nonce12,
                           const unsigned char *key32) {
    unsigned char tag[16];
    uint32_t state[16];
    dlsi_poly p;
    bool good;
    dlsi_aead_start(state, &p, ad, ad_bytes, nonce12, key32);
    dlsi_poly_padded(&p, (const unsigned char *)from, bytes);
    dlsi_poly_final(&p, ad_bytes, bytes, tag);
    good = dls_equal(tag, tag16, 16);
    if (good) dlsi_chacha_xor(state, (unsigned char *)to, (const unsigned char *)from, bytes);
    DLSI_WIPE(state);
    DLSI_WIPE(tag); /* the right tag of a forged message is a secret */
    return good ? 0 : -1;
}
#endif
#ifndef DLS_AEAD_SEAL
#define DLS_AEAD_SEAL dlsi_aead_seal
#endif
#ifndef DLS_AEAD_OPEN
#define DLS_AEAD_OPEN dlsi_aead_open
#endif
DLS_API void dls_aead_seal(void *to, unsigned char *tag16, const void *from, size_t bytes,
                           const void *ad, size_t ad_bytes, const unsigned char *nonce12,
                           const unsigned char *key32) {
    DLS_AEAD_SEAL(to, tag16, from, bytes, ad, ad_bytes, nonce12, key32);
}
DLS_API dls_status dls_aead_open(void *to, const void *from, size_t bytes,
                                 const unsigned char *tag16, const void *ad, size_t ad_bytes,
                                 const unsigned char *nonce12, const unsigned char *key32) {
    const int bad = DLS_AEAD_OPEN(to, from, bytes, tag16, ad, ad_bytes, nonce12, key32);
    return bad == 0 ? DLS_OK : DLS_E_AUTH;
}

/* ---- BLAKE2s, HMAC, HKDF ---- */

#ifndef DLS_HASH_INIT
static const uint32_t dlsi_blake2s_iv[8] = {0x6A09E667u, 0xBB67AE85u, 0x3C6EF372u, 0xA54FF53Au,
                                            0x510E527Fu, 0x9B05688Cu, 0x1F83D9ABu, 0x5BE0CD19u};

/* Which words of the block a step mixes in, two a byte. */
static const uint8_t dlsi_blake2s_sigma[10][8] = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF},
                                                  {0xEA, 0x48, 0x9F, 0xD6, 0x1C, 0x02, 0xB7, 0x53},
                                                  {0xB8, 0xC0, 0x52, 0xFD, 0xAE, 0x36, 0x71, 0x94},
                                                  {0x79, 0x31, 0xDC, 0xBE, 0x26, 0x5A, 0x40, 0xF8},
                                                  {0x90, 0x57, 0x24, 0xAF, 0xE1, 0xBC, 0x68, 0x3D},
                                                  {0x2C, 0x6A, 0x0B, 0x83, 0x4D, 0x75, 0xFE, 0x19},
                                                  {0xC5, 0x1F, 0xED, 0x4A, 0x07, 0x63, 0x92, 0x8B},
                                                  {0xDB, 0x7E, 0xC1, 0x39, 0x50, 0xF4, 0x86, 0x2A},
                                                  {0x6F, 0xE9, 0xB3, 0x08, 0xC2, 0xD7, 0x14, 0xA5},
                                                  {0xA2, 0x84, 0x76, 0x15, 0xFB, 0x9E, 0x3C, 0xD0}};

DLSI_INLINE void dlsi_blake2s_mix(uint32_t *v, int a, int b, int c, int d, uint32_t x, uint32_t y) {
    v[a] += v[b] + x;
    v[d] ^= v[a];
    v[d] = v[d] >> 16 | v[d] << 16;
    v[c] += v[d];
    v[b] ^= v[c];
    v[b] = v[b] >> 12 | v[b] << 20;
    v[a] += v[b] + y;
    v[d] ^= v[a];
    v[d] = v[d] >> 8 | v[d] << 24;
    v[c] += v[d];
    v[b] ^= v[c];
    v[b] = v[b] >> 7 | v[b] << 25;
}
DLSI_FN void dlsi_blake2s_compress(dls_blake2s *b, bool last) {
    uint32_t v[16], m[16];
    int i, round;
    for (i = 0; i < 16; i++) m[i] = dlsi_load32(b->buf + 4 * i);
    memcpy(v, b->h, sizeof b->h);
    memcpy(v + 8, dlsi_blake2s_iv, sizeof dlsi_blake2s_iv);
    v[12] ^= (uint32_t)(b->count & 0xFFFFFFFFu);
    v[13] ^= (uint32_t)(b->count >> 32);
    if (last) v[14] = ~v[14];
    for (round = 0; round < 10; round++) {
        DLSI_UNROLL
        for (i = 0; i < 8; i++) {
            const uint8_t pair = dlsi_blake2s_sigma[round][i];
            const int right = i >> 2;
            dlsi_blake2s_mix(v, i & 3, 4 + ((i + right) & 3), 8 + ((i + 2 * right) & 3),
                             12 + ((i + 3 * right) & 3), m[pair >> 4], m[pair & 15]);
        }
    }
    for (i = 0; i < 8; i++) b->h[i] ^= v[i] ^ v[i + 8];
}
DLSI_FN void dlsi_blake2s_update(dls_blake2s *b, const void *data, size_t bytes) {
    const unsigned char *p = (const unsigned char *)data;
    while (bytes > 0) {
        size_t n;
        if (b->used == sizeof b->buf) { /* only when more follows: the last block is another */
            b->count += sizeof b->buf;
            dlsi_blake2s_compress(b, false);
            b->used = 0;
        }
        n = dlsi_min_size(bytes, sizeof b->buf - b->used);
        memcpy(b->buf + b->used, p, n);
        b->used += (uint32_t)n;
        p += n;
        bytes -= n;
    }
}
DLSI_FN void dlsi_blake2s_init(dls_blake2s *b, const void *key, size_t key_bytes,
                               size_t out_bytes) {
    DLS_ASSERT(out_bytes >= 1 && out_bytes <= 32 && key_bytes <= 32);
    DLSI_ZERO(*b);
    memcpy(b->h, dlsi_blake2s_iv, sizeof b->h);
    b->h[0] ^= 0x01010000u ^ (uint32_t)key_bytes << 8 ^ (uint32_t)out_bytes;
    b->out = (uint32_t)out_bytes;
    if (key_bytes == 0) return;
    memcpy(b->buf, key, key_bytes);
    b->used = sizeof b->buf;
}
DLSI_FN void dlsi_blake2s_final(dls_blake2s *b, void *out) {
    unsigned char *to = (unsigned char *)out;
    uint32_t i;
    b->count += b->used;
    memset(b->buf + b->used, 0, sizeof b->buf - b->used);
    dlsi_blake2s_compress(b, true);
    for (i = 0; i < b->out; i++) to[i] = (unsigned char)(b->h[i / 4] >> 8 * (i % 4) & 255u);
    DLSI_WIPE(*b);
}
#define DLS_HASH_INIT(b, key, key_bytes, out_bytes) dlsi_blake2s_init(b, key, key_bytes, out_bytes)
#define DLS_HASH_UPDATE(b, data, bytes) dlsi_blake2s_update(b, data, bytes)
#define DLS_HASH_FINAL(b, out) dlsi_blake2s_final(b, out)
#endif

DLS_API void dls_blake2s_init(dls_blake2s *b, const void *key, size_t key_bytes, size_t out_bytes) {
    DLS_HASH_INIT(b, key, key_bytes, out_bytes);
}
DLS_API void dls_blake2s_update(dls_blake2s *b, const void *data, size_t bytes) {
    DLS_HASH_UPDATE(b, data, bytes);
}
DLS_API void dls_blake2s_final(dls_blake2s *b, void *out) { DLS_HASH_FINAL(b, out); }
DLS_API void dls_hash(void *out, size_t out_bytes, const void *key, size_t key_bytes,
                      const void *data, size_t bytes) {
    dls_blake2s b;
    dls_blake2s_init(&b, key, key_bytes, out_bytes);
    dls_blake2s_update(&b, data, bytes);
    dls_blake2s_final(&b, out);
}

/* HMAC of two pieces. */
DLSI_FN void dlsi_hmac(unsigned char *out32, const void *key, size_t key_bytes, const void *data,
                       size_t bytes, const void *more, size_t more_bytes) {
    unsigned char block[64];
    dls_blake2s b;
    int i;
    DLSI_ZERO(block);
    if (key_bytes > sizeof block)
        dls_hash(block, 32, NULL, 0, key, key_bytes);
    else if (key_bytes > 0)
        memcpy(block, key, key_bytes);
    for (i = 0; i < 64; i++) block[i] ^= 0x36u;
    dls_blake2s_init(&b, NULL, 0, 32);
    dls_blake2s_update(&b, block, sizeof block);
    dls_blake2s_update(&b, data, bytes);
    dls_blake2s_update(&b, more, more_bytes);
    dls_blake2s_final(&b, out32);
    for (i = 0; i < 64; i++) block[i] ^= 0x36u ^ 0x5Cu;
    dls_blake2s_init(&b, NULL, 0, 32);
    dls_blake2s_update(&b, block, sizeof block);
    dls_blake2s_update(&b, out32, 32);
    dls_blake2s_final(&b, out32);
    DLSI_WIPE(block);
}
DLS_API void dls_hmac(void *out32, const void *key, size_t key_bytes, const void *data,
                      size_t bytes) {
    dlsi_hmac((unsigned char *)out32, key, key_bytes, data, bytes, NULL, 0);
}
DLS_API void dls_hkdf(const void *chain32, const void *ikm, size_t bytes, void *out1, void *out2,
                      void *out3) {
    void *const out[3] = {out1, out2, out3};
    unsigned char key[32], last[33];
    size_t i, last_bytes = 0;
    dlsi_hmac(key, chain32, 32, ikm, bytes, NULL, 0);
    for (i = 0; i < 3 && out[i] != NULL; i++) {
        last[32] = (unsigned char)(i + 1);
        dlsi_hmac(last, key, 32, last, last_bytes, last + 32, 1);
        memcpy(out[i], last, 32);
        last_bytes = 32;
    }
    DLSI_WIPE(key);
    DLSI_WIPE(last);
}

#if DLS_ENABLE_SIGN
/* ---- SHA-512 (FIPS 180-4) ---- */

#ifndef DLS_SHA512
typedef struct dlsi_sha512 {
    uint64_t h[8], count;
    unsigned char buf[128];
} dlsi_sha512;

static const uint64_t dlsi_sha512_k[80] = {
    0x428A2F98D728AE22u, 0x7137449123EF65CDu, 0xB5C0FBCFEC4D3B2Fu, 0xE9B5DBA58189DBBCu,
    0x3956C25BF348B538u, 0x59F111F1B605D019u, 0x923F82A4AF194F9Bu, 0xAB1C5ED5DA6D8118u,
    0xD807AA98A3030242u, 0x12835B0145706FBEu, 0x243185BE4EE4B28Cu, 0x550C7DC3D5FFB4E2u,
    0x72BE5D74F27B896Fu, 0x80DEB1FE3B1696B1u, 0x9BDC06A725C71235u, 0xC19BF174CF692694u,
    0xE49B69C19EF14AD2u, 0xEFBE4786384F25E3u, 0x0FC19DC68B8CD5B5u, 0x240CA1CC77AC9C65u,
    0x2DE92C6F592B0275u, 0x4A7484AA6EA6E483u, 0x5CB0A9DCBD41FBD4u, 0x76F988DA831153B5u,
    0x983E5152EE66DFABu, 0xA831C66D2DB43210u, 0xB00327C898FB213Fu, 0xBF597FC7BEEF0EE4u,
    0xC6E00BF33DA88FC2u, 0xD5A79147930AA725u, 0x06CA6351E003826Fu, 0x142929670A0E6E70u,
    0x27B70A8546D22FFCu, 0x2E1B21385C26C926u, 0x4D2C6DFC5AC42AEDu, 0x53380D139D95B3DFu,
    0x650A73548BAF63DEu, 0x766A0ABB3C77B2A8u, 0x81C2C92E47EDAEE6u, 0x92722C851482353Bu,
    0xA2BFE8A14CF10364u, 0xA81A664BBC423001u, 0xC24B8B70D0F89791u, 0xC76C51A30654BE30u,
    0xD192E819D6EF5218u, 0xD69906245565A910u, 0xF40E35855771202Au, 0x106AA07032BBD1B8u,
    0x19A4C116B8D2D0C8u, 0x1E376C085141AB53u, 0x2748774CDF8EEB99u, 0x34B0BCB5E19B48A8u,
    0x391C0CB3C5C95A63u, 0x4ED8AA4AE3418ACBu, 0x5B9CCA4F7763E373u, 0x682E6FF3D6B2B8A3u,
    0x748F82EE5DEFB2FCu, 0x78A5636F43172F60u, 0x84C87814A1F0AB72u, 0x8CC702081A6439ECu,
    0x90BEFFFA23631E28u, 0xA4506CEBDE82BDE9u, 0xBEF9A3F7B2C67915u, 0xC67178F2E372532Bu,
    0xCA273ECEEA26619Cu, 0xD186B8C721C0C207u, 0xEADA7DD6CDE0EB1Eu, 0xF57D4F7FEE6ED178u,
    0x06F067AA72176FBAu, 0x0A637DC5A2C898A6u, 0x113F9804BEF90DAEu, 0x1B710B35131C471Bu,
    0x28DB77F523047D84u, 0x32CAAB7B40C72493u, 0x3C9EBE0A15C9BEBCu, 0x431D67C49C100D4Cu,
    0x4CC5D4BECB3E42B6u, 0x597F299CFC657E2Au, 0x5FCB6FAB3AD6FAECu, 0x6C44198C4A475817u};

DLSI_INLINE uint64_t dlsi_ror64(uint64_t x, int n) { return x >> n | x << (64 - n); }
DLSI_FN void dlsi_sha512_compress(dlsi_sha512 *s) {
    uint64_t w[16], v[8];
    int i, k;
    for (i = 0; i < 16; i++) {
        w[i] = (uint64_t)0;
        for (k = 0; k < 8; k++) w[i] = w[i] << 8 | s->buf[8 * i + k];
    }
    memcpy(v, s->h, sizeof v);
    for (i = 0; i < 80; i++) {
        const uint64_t w1 = w[(i + 1) & 15], w14 = w[(i + 14) & 15];
        const uint64_t s1 = dlsi_ror64(v[4], 14) ^ dlsi_ror64(v[4], 18) ^ dlsi_ror64(v[4], 41);
        const uint64_t s0 = dlsi_ror64(v[0], 28) ^ dlsi_ror64(v[0], 34) ^ dlsi_ror64(v[0], 39);
        const uint64_t t =
            v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + dlsi_sha512_k[i] + w[i & 15];
        w[i & 15] += (dlsi_ror64(w1, 1) ^ dlsi_ror64(w1, 8) ^ w1 >> 7) + w[(i + 9) & 15] +
                     (dlsi_ror64(w14, 19) ^ dlsi_ror64(w14, 61) ^ w14 >> 6); /* for i + 16 */
        v[7] = t + s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        v[3] += t;
        {
            const uint64_t first = v[7];
            memmove(v + 1, v, 7 * sizeof *v);
            v[0] = first;
        }
    }
    for (i = 0; i < 8; i++) s->h[i] += v[i];
}
DLSI_FN void dlsi_sha512_update(dlsi_sha512 *s, const void *data, size_t bytes) {
    const unsigned char *p = (const unsigned char *)data;
    while (bytes > 0) {
        const size_t used = (size_t)(s->count & 127u), n = dlsi_min_size(bytes, 128 - used);
        memcpy(s->buf + used, p, n);
        s->count += n;
        if (used + n == 128) dlsi_sha512_compress(s);
        p += n;
        bytes -= n;
    }
}
/* Of three pieces, one after the other. */
DLSI_FN void dlsi_sha512_of(unsigned char *out64, const void *a, size_t a_bytes, const void *b,
                            size_t b_bytes, const void *c, size_t c_bytes) {
    static const uint64_t iv[8] = {0x6A09E667F3BCC908u, 0xBB67AE8584CAA73Bu, 0x3C6EF372FE94F82Bu,
                                   0xA54FF53A5F1D36F1u, 0x510E527FADE682D1u, 0x9B05688C2B3E6C1Fu,
                                   0x1F83D9ABFB41BD6Bu, 0x5BE0CD19137E2179u};
    static const unsigned char end = 0x80, zero[135] = {0};
    unsigned char length[8];
    dlsi_sha512 s;
    int i;
    DLSI_ZERO(s);
    memcpy(s.h, iv, sizeof iv);
    dlsi_sha512_update(&s, a, a_bytes);
    dlsi_sha512_update(&s, b, b_bytes);
    dlsi_sha512_update(&s, c, c_bytes);
    for (i = 0; i < 8; i++) length[i] = (unsigned char)(s.count << 3 >> (56 - 8 * i) & 255u);
    dlsi_sha512_update(&s, &end, 1);
    dlsi_sha512_update(&s, zero, (size_t)((112 - s.count) & 127u) + 8); /* lengths: 16 bytes */
    dlsi_sha512_update(&s, length, 8);
    for (i = 0; i < 64; i++) out64[i] = (unsigned char)(s.h[i / 8] >> (56 - 8 * (i % 8)) & 255u);
    DLSI_WIPE(s);
}
#define DLS_SHA512(out64, a, a_bytes, b, b_bytes, c, c_bytes)                                      \
    dlsi_sha512_of(out64, a, a_bytes, b, b_bytes, c, c_bytes)
#endif

/* ---- Ed25519 ----
   Points of -x^2 + y^2 = 1 + d x^2 y^2 as (X : Y : Z : T), x = X / Z, y = Y / Z, T = X Y / Z. */

typedef struct dlsi_point {
    dlsi_fe x, y, z, t;
} dlsi_point;

static const unsigned char dlsi_ed_d[32] = {
    0xA3, 0x78, 0x59, 0x13, 0xCA, 0x4D, 0xEB, 0x75, 0xAB, 0xD8, 0x41, 0x41, 0x4D, 0x0A, 0x70, 0x00,
    0x98, 0xE8, 0x79, 0x77, 0x79, 0x40, 0xC7, 0x8C, 0x73, 0xFE, 0x6F, 0x2B, 0xEE, 0x6C, 0x03, 0x52};
static const unsigned char dlsi_ed_root[32] = {0xB0, 0xA0, 0x0E, 0x4A, 0x27, 0x1B, 0xEE, 0xC4, 0x78,
                                               0xE4, 0x2F, 0xAD, 0x06, 0x18, 0x43, 0x2F, 0xA7, 0xD7,
                                               0xFB, 0x3D, 0x99, 0x00, 0x4D, 0x2B, 0x0B, 0xDF, 0xC1,
                                               0x4F, 0x80, 0x24, 0x83, 0x2B}; /* of -1 */
static const unsigned char dlsi_ed_base[32] = {
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};
static const unsigned char dlsi_ed_order[32] = {
    0xED, 0xD3, 0xF5, 0x5C, 0x1A, 0x63, 0x12, 0x58, 0xD6, 0x9C, 0xF7,
    0xA2, 0xDE, 0xF9, 0xDE, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10}; /* L */

/* Hisil, Wong, Carter & Dawson 2008, 3.1, a = -1: complete, so it doubles too. */
DLSI_FN void dlsi_point_add(dlsi_point *r, const dlsi_point *p, const dlsi_point *q) {
    dlsi_fe a, b, c, d, e;
    dlsi_fe_sub(a, p->y, p->x);
    dlsi_fe_sub(e, q->y, q->x);
    dlsi_fe_mul(a, a, e);
    dlsi_fe_add(b, p->y, p->x);
    dlsi_fe_add(e, q->y, q->x);
    dlsi_fe_mul(b, b, e);
    dlsi_fe_load(c, dlsi_ed_d);
    dlsi_fe_mul(c, c, p->t);
    dlsi_fe_mul(c, c, q->t);
    dlsi_fe_add(c, c, c);
    dlsi_fe_mul(d, p->z, q->z);
    dlsi_fe_add(d, d, d);
    dlsi_fe_sub(e, b, a);
    dlsi_fe_add(b, b, a);
    dlsi_fe_sub(a, d, c);
    dlsi_fe_add(d, d, c);
    dlsi_fe_mul(r->x, e, a);
    dlsi_fe_mul(r->y, d, b);
    dlsi_fe_mul(r->t, e, b);
    dlsi_fe_mul(r->z, a, d);
}
DLSI_FN void dlsi_point_zero(dlsi_point *r) {
    dlsi_fe_set(r->x, 0);
    dlsi_fe_set(r->y, 1);
    dlsi_fe_set(r->z, 1);
    dlsi_fe_set(r->t, 0);
}
DLSI_FN void dlsi_point_store(unsigned char *to32, const dlsi_point *p) {
    dlsi_fe x, y;
    unsigned char odd[32];
    dlsi_fe_invert(y, p->z);
    dlsi_fe_mul(x, p->x, y);
    dlsi_fe_mul(y, p->y, y);
    dlsi_fe_store(odd, x);
    dlsi_fe_store(to32, y);
    to32[31] ^= (unsigned char)((odd[0] & 1u) << 7);
}
DLSI_FN bool dlsi_fe_equal(const dlsi_limb *a, const dlsi_limb *b) {
    unsigned char p[32], q[32];
    dlsi_fe_store(p, a);
    dlsi_fe_store(q, b);
    return dls_equal(p, q, 32);
}
/* False unless from32 is the one encoding of a point. RFC 8032 5.1.3. Not for secrets. */
DLSI_FN bool dlsi_point_load(dlsi_point *r, const unsigned char *from32) {
    dlsi_fe u, v, t;
    unsigned char text[32], odd;
    dlsi_fe_load(r->y, from32);
    dlsi_fe_set(r->z, 1);
    dlsi_fe_mul(u, r->y, r->y);
    dlsi_fe_load(v, dlsi_ed_d);
    dlsi_fe_mul(v, v, u);
    dlsi_fe_add(v, v, r->z);
    dlsi_fe_sub(u, u, r->z);
    dlsi_fe_mul(t, v, v); /* x = u v^3 (u v^7)^((p - 5) / 8), or that times the root of -1 */
    dlsi_fe_mul(t, t, v);
    dlsi_fe_mul(r->x, t, u);
    dlsi_fe_mul(t, t, t);
    dlsi_fe_mul(t, t, v);
    dlsi_fe_mul(t, t, u);
    dlsi_fe_power(r->t, t);
    dlsi_fe_mul(r->x, r->x, r->t);
    dlsi_fe_mul(t, r->x, r->x);
    dlsi_fe_mul(t, t, v);
    if (!dlsi_fe_equal(t, u)) {
        dlsi_fe_add(t, t, u);
        dlsi_fe_set(u, 0);
        if (!dlsi_fe_equal(t, u)) return false; /* v x^2 is neither u nor -u: no such x */
        dlsi_fe_load(t, dlsi_ed_root);
        dlsi_fe_mul(r->x, r->x, t);
    }
    dlsi_fe_store(text, r->x);
    if (((text[0] ^ from32[31] >> 7) & 1) != 0) {
        dlsi_fe_set(u, 0);
        dlsi_fe_sub(r->x, u, r->x);
    }
    dlsi_fe_mul(r->t, r->x, r->y);
    dlsi_fe_store(text, r->x);
    odd = (unsigned char)((text[0] & 1u) << 7);
    dlsi_fe_store(text, r->y);
    text[31] ^= odd;
    return dls_equal(text, from32, 32);
}
/* Of order 1, 2, 4 or 8. */
DLSI_FN bool dlsi_point_small(const dlsi_point *p) {
    dlsi_point r;
    dlsi_fe zero;
    dlsi_point_add(&r, p, p);
    dlsi_point_add(&r, &r, &r);
    dlsi_point_add(&r, &r, &r);
    dlsi_fe_set(zero, 0);
    return dlsi_fe_equal(r.x, zero); /* (0, 1), or (0, -1), which is no multiple of 8 */
}
/* r = a p + b q: both bits at once, always adding one of 0, p, q, p + q. */
DLSI_FN void dlsi_point_mul2(dlsi_point *r, const dlsi_limb *a, const dlsi_point *p,
                             const dlsi_limb *b, const dlsi_point *q) {
    const int words = (int)(sizeof(dlsi_point) / sizeof(dlsi_limb));
    dlsi_point sum[4], pick;
    int i, k;
    dlsi_point_zero(&sum[0]);
    sum[1] = *p;
    sum[2] = *q;
    dlsi_point_add(&sum[3], p, q);
    dlsi_point_zero(r);
    for (i = 255; i >= 0; i--) {
        const dlsi_limb low = a[i / DLSI_LIMB_BITS] >> i % DLSI_LIMB_BITS & 1u;
        const dlsi_limb high = b[i / DLSI_LIMB_BITS] >> i % DLSI_LIMB_BITS & 1u;
        pick = sum[0];
        for (k = 1; k < 4; k++) {
            const dlsi_limb same = 1u ^ (((low ^ (dlsi_limb)k) | (high ^ (dlsi_limb)k >> 1)) & 1u);
            dlsi_long_select(pick.x, sum[k].x, words, dlsi_mask(same));
        }
        dlsi_point_add(r, r, r);
        dlsi_point_add(r, r, &pick);
    }
    DLSI_WIPE(pick);
}
/* r = x mod L, x twice as long: bit by bit. */
DLSI_FN void dlsi_scalar_mod(dlsi_limb *r, const dlsi_limb *x) {
    dlsi_limb order[DLSI_LIMBS], less[DLSI_LIMBS];
    int i;
    dlsi_long_load(order, dlsi_ed_order, DLSI_LIMBS);
    memset(r, 0, DLSI_LIMBS * sizeof *r);
    for (i = 511; i >= 0; i--) {
        (void)dlsi_long_add(r, r, r, DLSI_LIMBS);
        r[0] |= x[i / DLSI_LIMB_BITS] >> i % DLSI_LIMB_BITS & 1u;
        dlsi_long_select(r, less, DLSI_LIMBS,
                         dlsi_mask(1 ^ dlsi_long_sub(less, r, order, DLSI_LIMBS)));
    }
    DLSI_WIPE(less);
}
/* r = SHA-512 of three pieces, mod L. */
DLSI_FN void dlsi_scalar_hash(dlsi_limb *r, const void *a, size_t a_bytes, const void *b,
                              size_t b_bytes, const void *c, size_t c_bytes) {
    unsigned char hash[64];
    dlsi_limb x[2 * DLSI_LIMBS];
    DLS_SHA512(hash, a, a_bytes, b, b_bytes, c, c_bytes);
    dlsi_long_load(x, hash, 2 * DLSI_LIMBS);
    dlsi_scalar_mod(r, x);
    DLSI_WIPE(hash);
    DLSI_WIPE(x);
}

#ifndef DLS_ED25519_VERIFY
DLSI_FN int dlsi_ed25519_verify(const unsigned char *sig64, const void *msg, size_t bytes,
                                const unsigned char *public32) {
    dlsi_limb s[DLSI_LIMBS], h[DLSI_LIMBS], order[DLSI_LIMBS];
    dlsi_point a, base, r;
    dlsi_fe zero;
    unsigned char text[32];
    dlsi_long_load(s, sig64 + 32, DLSI_LIMBS);
    dlsi_long_load(order, dlsi_ed_order, DLSI_LIMBS);
    if (dlsi_long_sub(h, s, order, DLSI_LIMBS) == 0) return -1;
    if (!dlsi_point_load(&a, public32) || dlsi_point_small(&a)) return -1;
    dlsi_scalar_hash(h, sig64, 32, public32, 32, msg, bytes);
    dlsi_fe_set(zero, 0); /* R = s B - h A */
    dlsi_fe_sub(a.x, zero, a.x);
    dlsi_fe_sub(a.t, zero, a.t);
    (void)dlsi_point_load(&base, dlsi_ed_base);
    dlsi_point_mul2(&r, s, &base, h, &a);
    dlsi_point_store(text, &r);
    return dls_equal(text, sig64, 32) && !dlsi_point_small(&r) ? 0 : -1;
}
#define DLS_ED25519_VERIFY(sig64, msg, bytes, public32)                                            \
    dlsi_ed25519_verify(sig64, msg, bytes, public32)
#endif
DLS_API dls_status dls_ed25519_verify(const unsigned char *sig64, const void *msg, size_t bytes,
                                      const unsigned char *public32) {
    return DLS_ED25519_VERIFY(sig64, msg, bytes, public32) == 0 ? DLS_OK : DLS_E_AUTH;
}

/* to32 = a B */
DLSI_FN void dlsi_ed25519_base(unsigned char *to32, const dlsi_limb *a) {
    dlsi_limb none[DLSI_LIMBS];
    dlsi_point base, r;
    (void)dlsi_point_load(&base, dlsi_ed_base);
    DLSI_ZERO(none);
    dlsi_point_mul2(&r, a, &base, none, &base);
    dlsi_point_store(to32, &r);
    DLSI_WIPE(r);
}
/* The secret scalar and, as bytes 32..63 of hash64, what signatures derive their nonce from. */
DLSI_FN void dlsi_ed25519_expand(dlsi_limb *a, unsigned char *hash64, const unsigned char *seed32) {
    DLS_SHA512(hash64, seed32, 32, NULL, 0, NULL, 0);
    hash64[0] &= 248u;
    hash64[31] = (unsigned char)((hash64[31] & 63u) | 64u);
    dlsi_long_load(a, hash64, DLSI_LIMBS);
}
DLS_API void dls_ed25519_public(unsigned char *public32, const unsigned char *seed32) {
    unsigned char hash[64];
    dlsi_limb a[DLSI_LIMBS];
    dlsi_ed25519_expand(a, hash, seed32);
    dlsi_ed25519_base(public32, a);
    DLSI_WIPE(hash);
    DLSI_WIPE(a);
}
DLS_API void dls_ed25519_sign(unsigned char *sig64, const void *msg, size_t bytes,
                              const unsigned char *seed32) {
    unsigned char hash[64], key[32];
    dlsi_limb a[DLSI_LIMBS], r[DLSI_LIMBS], h[DLSI_LIMBS], x[2 * DLSI_LIMBS];
    dlsi_ed25519_expand(a, hash, seed32);
    dlsi_ed25519_base(key, a);
    dlsi_scalar_hash(r, hash + 32, 32, msg, bytes, NULL, 0);
    dlsi_ed25519_base(sig64, r);
    dlsi_scalar_hash(h, sig64, 32, key, 32, msg, bytes);
    dlsi_long_mul(x, h, a); /* S = r + h a mod L */
    (void)dlsi_long_add_limb(x + DLSI_LIMBS, DLSI_LIMBS, dlsi_long_add(x, x, r, DLSI_LIMBS));
    dlsi_scalar_mod(a, x);
    dlsi_long_store(sig64 + 32, a, DLSI_LIMBS);
    DLSI_WIPE(hash);
    DLSI_WIPE(a);
    DLSI_WIPE(r);
    DLSI_WIPE(x);
}
#endif /* DLS_ENABLE_SIGN */

/* ------------------------------------------------------------------------------------------------
   >>wire.impl  deps: config base wire.api      */

DLS_API void dls_init_head_write(const dls_init_head *head, void *to) {
    unsigned char *p = (unsigned char *)to;
    p[0] = head->type;
    p[1] = DLS_WIRE_VERSION;
    p[2] = head->pattern;
    p[3] = 0;
    dlsi_store32(p + 4, head->index);
    dlsi_store32(p + 8, head->id);
    dlsi_store32(p + 12, head->group_or_index);
}
DLS_API dls_status dls_init_head_read(dls_init_head *head, const void *from, size_t n) {
    const unsigned char *p = (const unsigned char *)from;
    if (n < DLS_INIT_PLAIN || (p[0] != DLS_PACKET_INIT && p[0] != DLS_PACKET_RESP))
        return DLS_E_FORMAT;
    if (p[1] != DLS_WIRE_VERSION) return DLS_E_VERSION;
    if (p[3] != 0 || p[2] > 3 || p[2] == 2 || n != (p[2] == 0 ? DLS_INIT_PLAIN : DLS_INIT_BYTES))
        return DLS_E_FORMAT;
    head->type = p[0];
    head->pattern = p[2];
    head->index = dlsi_load32(p + 4);
    head->id = dlsi_load32(p + 8);
    head->group_or_index = dlsi_load32(p + 12);
    return DLS_OK;
}
DLS_API void dls_data_head_write(const dls_data_head *head, void *to) {
    unsigned char *p = (unsigned char *)to;
    p[0] = DLS_PACKET_DATA;
    p[1] = 0;
    dlsi_store16(p + 2, head->index);
    dlsi_store32(p + 4, head->counter);
}
DLS_API dls_status dls_data_head_read(dls_data_head *head, const void *from, size_t n) {
    const unsigned char *p = (const unsigned char *)from;
    if (n < DLS_HEAD_BYTES || p[0] != DLS_PACKET_DATA || p[1] != 0) return DLS_E_FORMAT;
    head->index = dlsi_load16(p + 2);
    head->counter = dlsi_load32(p + 4);
    return DLS_OK;
}
DLS_API void dls_announce_write(const dls_announce *announce, void *to) {
    unsigned char *p = (unsigned char *)to;
    p[0] = DLS_PACKET_ANNOUNCE;
    p[1] = DLS_WIRE_VERSION;
    p[2] = p[3] = 0;
    dlsi_store32(p + 4, announce->group);
    dlsi_store32(p + 8, announce->id);
    dlsi_store32(p + 12, announce->boot);
    dlsi_store32(p + 16, announce->sequence);
    dlsi_store32(p + 20, announce->run);
    dlsi_store32(p + 24, announce->epoch);
    dlsi_store16(p + 28, announce->port);
    p[30] = p[31] = 0;
}
DLS_API dls_status dls_announce_read(dls_announce *announce, const void *from, size_t n) {
    const unsigned char *p = (const unsigned char *)from;
    if (n < 12 || p[0] != DLS_PACKET_ANNOUNCE) return DLS_E_FORMAT;
    announce->group = dlsi_load32(p + 4);
    announce->id = dlsi_load32(p + 8);
    if (p[1] != DLS_WIRE_VERSION) return DLS_E_VERSION;
    if (n != DLS_ANNOUNCE_BYTES || p[2] != 0 || p[3] != 0 || dlsi_load16(p + 30) != 0)
        return DLS_E_FORMAT;
    announce->boot = dlsi_load32(p + 12);
    announce->sequence = dlsi_load32(p + 16);
    announce->run = dlsi_load32(p + 20);
    announce->epoch = dlsi_load32(p + 24);
    announce->port = (uint16_t)dlsi_load16(p + 28);
    return DLS_OK;
}

DLS_API size_t dls_frame_head_bytes(dls_frame_kind kind) {
    static const uint8_t bytes[DLS_FRAME_KINDS] = {1, 2, 5, 9, 1, 10};
    return kind < DLS_FRAME_KINDS ? bytes[kind] : 0;
}
DLS_API void dls_frame_write(const dls_frame *frame, void *to) {
    unsigned char *p = (unsigned char *)to;
    p[0] = frame->kind;
    if (frame->kind == DLS_FRAME_ACK) p[1] = (unsigned char)frame->bytes;
    if (frame->kind == DLS_FRAME_CONTROL) {
        dlsi_store16(p + 1, frame->a);
        dlsi_store16(p + 3, (uint32_t)frame->bytes);
    } else if (frame->kind == DLS_FRAME_CHUNK || frame->kind == DLS_FRAME_RELAY) {
        if (frame->kind == DLS_FRAME_RELAY) *++p = frame->hops;
        dlsi_store32(p + 1, frame->a);
        dlsi_store32(p + 5, frame->b);
    }
}
DLS_API dls_status dls_frame_read(dls_frame *frame, const void *from, size_t n, size_t *used) {
    const unsigned char *p = (const unsigned char *)from;
    const size_t head = n > 0 ? dls_frame_head_bytes((dls_frame_kind)p[0]) : 0;
    DLSI_ZERO(*frame);
    if (head == 0 || n < head) return DLS_E_FORMAT;
    frame->kind = p[0];
    frame->body = p + head;
    frame->bytes = n - head;
    if (frame->kind == DLS_FRAME_ACK) frame->bytes = p[1];
    if (frame->kind == DLS_FRAME_PING) frame->bytes = 0;
    if (frame->kind == DLS_FRAME_CONTROL) {
        frame->a = dlsi_load16(p + 1);
        frame->bytes = dlsi_load16(p + 3);
    } else if (frame->kind == DLS_FRAME_CHUNK || frame->kind == DLS_FRAME_RELAY) {
        if (frame->kind == DLS_FRAME_RELAY) frame->hops = *++p;
        frame->a = dlsi_load32(p + 1);
        frame->b = dlsi_load32(p + 5);
    }
    *used = head + frame->bytes;
    return frame->bytes <= n - head ? DLS_OK : DLS_E_FORMAT;
}

DLS_API dls_status dls_control_read(dls_control *control, const void *from, size_t n,
                                    size_t *used) {
    static const uint8_t least[DLS_CONTROL_TYPES] = {0, DLS_HELLO_BYTES, 16, 5, 4, 0, 0, 8, 14, 16,
                                                     4};
    const unsigned char *p = (const unsigned char *)from;
    if (n < 4 || dlsi_load16(p + 2) > n - 4) return DLS_E_FORMAT;
    control->type = p[0];
    control->flags = p[1];
    control->payload = p + 4;
    control->bytes = dlsi_load16(p + 2);
    *used = 4 + control->bytes;
    if (control->type == 0 || control->type >= DLS_CONTROL_TYPES)
        return (control->flags & 1u) != 0 ? DLS_E_VERSION : DLS_OK;
    return control->bytes >= least[control->type] ? DLS_OK : DLS_E_FORMAT;
}
DLS_API void dls_hello_write(const dls_hello *hello, void *to) {
    unsigned char *p = (unsigned char *)to;
    dlsi_store16(p, hello->major);
    dlsi_store16(p + 2, hello->minor);
    dlsi_store32(p + 4, hello->size);
    p[8] = hello->real_bytes;
    p[9] = hello->flags;
    dlsi_store16(p + 10, hello->wants);
    memcpy(p + 12, hello->name, DLS_NAME_BYTES);
}
DLS_API dls_status dls_hello_read(dls_hello *hello, const void *from, size_t n) {
    const unsigned char *p = (const unsigned char *)from;
    size_t i;
    if (n < DLS_HELLO_BYTES) return DLS_E_FORMAT;
    hello->major = dlsi_load16(p);
    hello->minor = dlsi_load16(p + 2);
    hello->size = dlsi_load32(p + 4);
    hello->real_bytes = p[8];
    hello->flags = p[9];
    hello->wants = dlsi_load16(p + 10);
    memcpy(hello->name, p + 12, DLS_NAME_BYTES);
    if (hello->name[DLS_NAME_BYTES - 1] != '\0' || hello->wants == 0) return DLS_E_FORMAT;
    for (i = 0; hello->name[i] != '\0'; i++) /* names reach terminals */
        if (hello->name[i] < ' ' || hello->name[i] > '~') return DLS_E_FORMAT;
    return hello->major == DLS_VERSION_MAJOR ? DLS_OK : DLS_E_VERSION;
}

DLS_API size_t dls_cobs_write(void *to, size_t to_max, const void *packet, size_t bytes) {
    unsigned char *out = (unsigned char *)to;
    const unsigned char *in = (const unsigned char *)packet;
    unsigned char crc[4];
    size_t i, at = 1, code = 0; /* where the next byte and the code of this block go */
    if (bytes == 0 || bytes > to_max || to_max - bytes < DLS_COBS_BYTES(bytes) - bytes) return 0;
    dlsi_store32(crc, dls_crc32c(0, packet, bytes));
    for (i = 0; i < bytes + 4; i++) {
        const unsigned char b = i < bytes ? in[i] : crc[i - bytes];
        if (b != 0) out[at++] = b;
        if (b == 0 || at - code == 255) {
            out[code] = (unsigned char)(at - code);
            code = at++;
        }
    }
    out[code] = (unsigned char)(at - code);
    out[at++] = 0;
    return at;
}
DLS_API void dls_cobs_init(dls_cobs *c, void *mem, size_t bytes) {
    DLSI_ZERO(*c);
    c->mem = (unsigned char *)mem;
    c->size = bytes;
    c->code = 255; /* no zero stands before the first block */
}
DLSI_FN void dlsi_cobs_put(dls_cobs *c, unsigned char b) {
    if (c->used < c->size)
        c->mem[c->used++] = b;
    else
        c->skip = true;
}
/* A zero came: what the frame held, 0 when it was damaged or nothing. Then the next begins. */
DLSI_FN size_t dlsi_cobs_end(dls_cobs *c) {
    size_t n = c->used;
    const bool idle = n == 0 && c->code == 255 && c->left == 0 && !c->skip;
    if (c->skip || c->left != 0 || n < 5 ||
        dls_crc32c(0, c->mem, n - 4) != dlsi_load32(c->mem + n - 4))
        n = 4;
    if (n == 4 && !idle) c->bad++;
    c->used = 0;
    c->left = 0;
    c->code = 255;
    c->skip = false;
    return n - 4;
}
DLS_API size_t dls_cobs_read(dls_cobs *c, const void *bytes, size_t n, size_t *taken) {
    const unsigned char *in = (const unsigned char *)bytes;
    size_t i, got = 0;
    for (i = 0; i < n && got == 0; i++) {
        const unsigned char b = in[i];
        if (b == 0)
            got = dlsi_cobs_end(c);
        else if (c->left > 0) {
            dlsi_cobs_put(c, b);
            c->left--;
        } else { /* a code byte; the block before ended in a zero unless it was a full one */
            if (c->code != 255) dlsi_cobs_put(c, 0);
            c->code = b;
            c->left = (uint8_t)(b - 1);
        }
    }
    *taken = i;
    return got;
}

/* ------------------------------------------------------------------------------------------------
   >>chan.impl  deps: config base port crypt wire chan.api  */

/* ---- Noise ----
   A pattern is a row of tokens. A Diffie-Hellman token says whose static key it takes: 4, plus 1 for
   the initiator's, plus 2 for the responder's; the other keys are ephemeral. */

enum { DLSI_T_END = 0, DLSI_T_E, DLSI_T_S, DLSI_T_PSK, DLSI_T_EE, DLSI_T_SE, DLSI_T_ES, DLSI_T_SS };
typedef struct dlsi_noise_row {
    const char *name;
    uint8_t psk;     /* has a psk token, so that e goes into the key too */
    uint8_t statics; /* bits: 1 the initiator has a static key, 2 the responder */
    uint8_t known;   /* those of them known beforehand, by the same bits */
    uint8_t messages;
    uint8_t token[3][6]; /* per message, zero at the end */
} dlsi_noise_row;

/* clang-format off */
static const dlsi_noise_row dlsi_noise_rows[3] = {
    {"KKpsk0", 1, 3, 3, 2, {{DLSI_T_PSK, DLSI_T_E, DLSI_T_ES, DLSI_T_SS},
                            {DLSI_T_E, DLSI_T_EE, DLSI_T_SE}}},
    {"XXpsk3", 1, 3, 0, 3, {{DLSI_T_E},
                            {DLSI_T_E, DLSI_T_EE, DLSI_T_S, DLSI_T_ES},
                            {DLSI_T_S, DLSI_T_SE, DLSI_T_PSK}}},
    {"NNpsk0", 1, 0, 0, 2, {{DLSI_T_PSK, DLSI_T_E},
                            {DLSI_T_E, DLSI_T_EE}}}};
/* clang-format on */

DLSI_FN void dlsi_noise_mix_hash(dls_noise *n, const void *data, size_t bytes) {
    dls_blake2s b;
    dls_blake2s_init(&b, NULL, 0, 32);
    dls_blake2s_update(&b, n->hash, 32);
    dls_blake2s_update(&b, data, bytes);
    dls_blake2s_final(&b, n->hash);
}
DLSI_FN void dlsi_noise_mix_key(dls_noise *n, const unsigned char *ikm32) {
    dls_hkdf(n->chain, ikm32, 32, n->chain, n->key, NULL);
    n->keyed = 1;
    n->nonce = 0;
}
DLSI_FN void dlsi_noise_mix_psk(dls_noise *n) {
    unsigned char hash[32];
    dls_hkdf(n->chain, n->psk, 32, n->chain, hash, n->key);
    dlsi_noise_mix_hash(n, hash, 32);
    dls_wipe(hash, sizeof hash);
    n->keyed = 1;
    n->nonce = 0;
}
DLSI_FN dls_status dlsi_noise_mix_dh(dls_noise *n, uint32_t token) {
    const uint32_t mine = n->initiator != 0 ? 1u : 2u, theirs = 3u - mine;
    unsigned char shared[32];
    const dls_status status =
        dls_x25519(shared, (token & mine) != 0 ? n->secret : n->ephemeral,
                   (token & theirs) != 0 ? n->remote_static : n->remote_ephemeral);
    if (status == DLS_OK) dlsi_noise_mix_key(n, shared);
    dls_wipe(shared, sizeof shared);
    return status;
}

DLSI_FN void dlsi_noise_nonce(unsigned char *nonce12, uint64_t counter) {
    memset(nonce12, 0, 4);
    dlsi_store64(nonce12 + 4, counter);
}
/* Payloads and static keys: encrypted once there is a key, and hashed as they go. Returns the bytes
   written. */
DLSI_FN size_t dlsi_noise_seal(dls_noise *n, unsigned char *to, const void *from, size_t bytes) {
    size_t whole = bytes;
    unsigned char nonce[12];
    if (n->keyed != 0) {
        dlsi_noise_nonce(nonce, n->nonce++);
        dls_aead_seal(to, to + bytes, from, bytes, n->hash, 32, nonce, n->key);
        whole += DLS_RECORD_TAG;
    } else if (bytes > 0)
        memcpy(to, from, bytes);
    dlsi_noise_mix_hash(n, to, whole);
    return whole;
}
/* whole: bytes to take, with the tag if there is one. */
DLSI_FN dls_status dlsi_noise_open(dls_noise *n, void *to, const unsigned char *from,
                                   size_t whole) {
    const size_t bytes = n->keyed != 0 ? whole - DLS_RECORD_TAG : whole;
    unsigned char nonce[12];
    dls_status status = DLS_OK;
    if (n->keyed != 0) {
        dlsi_noise_nonce(nonce, n->nonce++);
        status = dls_aead_open(to, from, bytes, from + bytes, n->hash, 32, nonce, n->key);
    } else if (bytes > 0)
        memcpy(to, from, bytes);
    dlsi_noise_mix_hash(n, from, whole);
    return status;
}

/* Bytes of the next message beyond its payload. */
DLSI_FN size_t dlsi_noise_extra(const dls_noise *n) {
    const uint8_t *token = n->row->token[n->message];
    bool keyed = n->keyed != 0;
    size_t bytes = 0;
    for (; *token != DLSI_T_END; token++) {
        if (*token == DLSI_T_E) bytes += 32;
        if (*token == DLSI_T_S) bytes += keyed ? 32 + DLS_RECORD_TAG : 32;
        if (*token >= DLSI_T_PSK || (*token == DLSI_T_E && n->row->psk != 0)) keyed = true;
    }
    return keyed ? bytes + DLS_RECORD_TAG : bytes;
}
DLSI_FN bool dlsi_noise_turn(const dls_noise *n, bool write) {
    if (n->row == NULL || n->message >= n->row->messages) return false;
    return ((n->message & 1u) == 0) == ((n->initiator != 0) == write);
}

DLSI_FN dls_status dlsi_noise_write(dls_noise *n, const void *payload, size_t bytes,
                                    unsigned char *to) {
    const uint8_t *token = n->row->token[n->message];
    dls_status status = DLS_OK;
    for (; *token != DLSI_T_END && status == DLS_OK; token++) {
        if (*token == DLSI_T_E) {
            dls_x25519_public(to, n->ephemeral);
            dlsi_noise_mix_hash(n, to, 32);
            if (n->row->psk != 0) dlsi_noise_mix_key(n, to);
            to += 32;
        } else if (*token == DLSI_T_S) {
            to += dlsi_noise_seal(n, to, n->public_key, 32);
        } else if (*token == DLSI_T_PSK) {
            dlsi_noise_mix_psk(n);
        } else
            status = dlsi_noise_mix_dh(n, *token);
    }
    if (status == DLS_OK) (void)dlsi_noise_seal(n, to, payload, bytes);
    n->message++;
    return status;
}
/* bytes: of the payload. */
DLSI_FN dls_status dlsi_noise_read(dls_noise *n, const unsigned char *from, void *payload,
                                   size_t bytes) {
    const uint8_t *token = n->row->token[n->message];
    dls_status status = DLS_OK;
    for (; *token != DLSI_T_END && status == DLS_OK; token++) {
        if (*token == DLSI_T_E) {
            memcpy(n->remote_ephemeral, from, 32);
            dlsi_noise_mix_hash(n, from, 32);
            if (n->row->psk != 0) dlsi_noise_mix_key(n, from);
            from += 32;
        } else if (*token == DLSI_T_S) {
            const size_t whole = n->keyed != 0 ? 32 + DLS_RECORD_TAG : 32;
            status = dlsi_noise_open(n, n->remote_static, from, whole);
            n->heard = 1;
            from += whole;
        } else if (*token == DLSI_T_PSK) {
            dlsi_noise_mix_psk(n);
        } else
            status = dlsi_noise_mix_dh(n, *token);
    }
    if (status == DLS_OK)
        status = dlsi_noise_open(n, payload, from, n->keyed != 0 ? bytes + DLS_RECORD_TAG : bytes);
    n->message++;
    return status;
}

DLS_API dls_status dls_noise_ephemeral(unsigned char *ephemeral32, const unsigned char *key32,
                                       uint64_t counter) {
    unsigned char seed[40];
    const dls_status status = dls_random(seed, 32);
    dlsi_store64(seed + 32, counter);
    dls_hash(ephemeral32, 32, key32, 32, seed, sizeof seed);
    dls_wipe(seed, sizeof seed);
    return status;
}

/* Errors: DLS_E_ARG, as dls_noise_init(). */
DLSI_FN dls_status dlsi_noise_begin(dls_noise *n, const dlsi_noise_row *row,
                                    const dls_noise_desc *desc) {
    const uint32_t mine = desc->initiator ? 1u : 2u, theirs = 3u - mine;
    dls_blake2s b;
    uint32_t side;
    DLSI_ZERO(*n);
    if (row == NULL || desc->ephemeral == NULL || (desc->psk != NULL) != (row->psk != 0) ||
        (desc->secret != NULL) != ((row->statics & mine) != 0) ||
        (desc->remote != NULL) != ((row->known & theirs) != 0) ||
        (desc->prologue == NULL && desc->prologue_bytes > 0))
        return DLS_E_ARG;
    n->row = row;
    n->initiator = desc->initiator ? 1 : 0;
    memcpy(n->ephemeral, desc->ephemeral, 32);
    if (desc->psk != NULL) memcpy(n->psk, desc->psk, 32);
    if (desc->secret != NULL) memcpy(n->secret, desc->secret, 32);
    if (desc->secret != NULL && desc->public_key == NULL)
        dls_x25519_public(n->public_key, n->secret);
    else if (desc->secret != NULL)
        memcpy(n->public_key, desc->public_key, 32);
    if (desc->remote != NULL) memcpy(n->remote_static, desc->remote, 32);
    n->heard = desc->remote != NULL;
    dls_blake2s_init(&b, NULL, 0, 32); /* names longer than 32 bytes are hashed; ours are */
    dls_blake2s_update(&b, "Noise_", 6);
    dls_blake2s_update(&b, row->name, strlen(row->name));
    dls_blake2s_update(&b, "_25519_ChaChaPoly_BLAKE2s", 25);
    dls_blake2s_final(&b, n->hash);
    memcpy(n->chain, n->hash, 32);
    dlsi_noise_mix_hash(n, desc->prologue, desc->prologue_bytes);
    for (side = 1; side <= 2; side++)
        if ((row->known & side) != 0)
            dlsi_noise_mix_hash(n, side == mine ? n->public_key : n->remote_static, 32);
    return DLS_OK;
}
DLS_API dls_status dls_noise_init(dls_noise *n, const dls_noise_desc *desc) {
    const uint32_t i = (uint32_t)desc->pattern - 1u;
    return dlsi_noise_begin(n, i < 3 ? &dlsi_noise_rows[i] : NULL, desc);
}

DLS_API dls_status dls_noise_write(dls_noise *n, const void *payload, size_t bytes, void *out,
                                   size_t out_max, size_t *out_bytes) {
    dls_noise next;
    dls_status status;
    size_t extra;
    *out_bytes = 0;
    if (!dlsi_noise_turn(n, true)) return DLS_E_STATE;
    extra = dlsi_noise_extra(n);
    if (bytes > DLS_NOISE_MESSAGE_MOST - extra) return DLS_E_ARG;
    if (bytes + extra > out_max) return DLS_E_MEMORY;
    next = *n;
    status = dlsi_noise_write(&next, payload, bytes, (unsigned char *)out);
    if (status == DLS_OK) {
        *n = next;
        *out_bytes = bytes + extra;
    }
    dls_wipe(&next, sizeof next);
    return status;
}
DLS_API dls_status dls_noise_read(dls_noise *n, const void *message, size_t bytes, void *payload,
                                  size_t payload_max, size_t *payload_bytes) {
    dls_noise next;
    dls_status status;
    size_t extra;
    *payload_bytes = 0;
    if (!dlsi_noise_turn(n, false)) return DLS_E_STATE;
    extra = dlsi_noise_extra(n);
    if (bytes < extra || bytes > DLS_NOISE_MESSAGE_MOST) return DLS_E_FORMAT;
    if (bytes - extra > payload_max) return DLS_E_MEMORY;
    next = *n;
    status = dlsi_noise_read(&next, (const unsigned char *)message, payload, bytes - extra);
    if (status == DLS_OK) {
        *n = next;
        *payload_bytes = bytes - extra;
    }
    dls_wipe(&next, sizeof next);
    return status;
}

DLS_API bool dls_noise_done(const dls_noise *n) {
    return n->row != NULL && n->message == n->row->messages;
}
DLS_API const unsigned char *dls_noise_remote(const dls_noise *n) {
    return n->heard != 0 ? n->remote_static : NULL;
}
DLS_API const unsigned char *dls_noise_hash(const dls_noise *n) {
    return n->row != NULL ? n->hash : NULL;
}
DLS_API dls_status dls_noise_split(dls_noise *n, unsigned char *send_key32,
                                   unsigned char *recv_key32) {
    if (!dls_noise_done(n)) return DLS_E_STATE;
    if (n->initiator != 0)
        dls_hkdf(n->chain, NULL, 0, send_key32, recv_key32, NULL);
    else
        dls_hkdf(n->chain, NULL, 0, recv_key32, send_key32, NULL);
    dls_wipe(n, sizeof *n);
    return DLS_OK;
}

/* ---- Records ---- */

#ifndef DLSI_REKEY_BITS /* part of the wire; tests rekey more often */
#define DLSI_REKEY_BITS 20
#endif
#define DLSI_REKEY_PERIOD ((uint64_t)1 << DLSI_REKEY_BITS)
#define DLSI_RECORDS_STALE ((uint64_t)1 << 32)
#define DLSI_RECORDS_MOST ((uint64_t)1 << 33)
#define DLSI_FORGED_STALE ((uint64_t)1 << 20)
#define DLSI_FORGED_MOST ((uint64_t)1 << 36) /* the bound on forgeries under ChaCha20-Poly1305 */

DLS_API void dls_session_init(dls_session *s, const unsigned char *send_key32,
                              const unsigned char *recv_key32) {
    DLSI_ZERO(*s);
    memcpy(s->send_key, send_key32, 32);
    memcpy(s->recv_key, recv_key32, 32);
}

/* REKEY of the specification, 4.2: the first 32 bytes of ENCRYPT(key, 2^64-1, "", zeros). */
DLSI_FN void dlsi_session_rekey(unsigned char *to32, const unsigned char *key32) {
    unsigned char nonce[12], tag[DLS_RECORD_TAG], zeros[32];
    memset(zeros, 0, sizeof zeros);
    dlsi_noise_nonce(nonce, UINT64_MAX);
    dls_aead_seal(to32, tag, zeros, sizeof zeros, NULL, 0, nonce, key32);
}

DLS_API dls_status dls_session_seal(dls_session *s, void *to, const void *from, size_t bytes,
                                    const void *ad, size_t ad_bytes, unsigned char *tag16) {
    unsigned char nonce[12];
    if (s->sent >= DLSI_RECORDS_MOST) return DLS_E_LIMIT;
    if (s->sent > 0 && s->sent % DLSI_REKEY_PERIOD == 0)
        dlsi_session_rekey(s->send_key, s->send_key);
    dlsi_noise_nonce(nonce, s->sent++);
    dls_aead_seal(to, tag16, from, bytes, ad, ad_bytes, nonce, s->send_key);
    return DLS_OK;
}

DLSI_FN uint32_t dlsi_session_bit(uint64_t ctr) { return (uint32_t)1 << (ctr % 32); }
DLSI_FN uint32_t dlsi_session_word(uint64_t ctr) { return (uint32_t)(ctr % DLS_REPLAY_BITS / 32); }
/* Marks ctr as opened; a higher one moves the window (RFC 6479, bit by bit). */
DLSI_FN void dlsi_session_mark(dls_session *s, uint64_t ctr) {
    if (ctr >= s->top + DLS_REPLAY_BITS) memset(s->window, 0, sizeof s->window);
    for (; s->top <= ctr && ctr - s->top < DLS_REPLAY_BITS; s->top++)
        s->window[dlsi_session_word(s->top)] &= ~dlsi_session_bit(s->top);
    if (s->top <= ctr) s->top = ctr + 1;
    s->window[dlsi_session_word(ctr)] |= dlsi_session_bit(ctr);
    /* Soon after a rekeying no record of the key before can come any more. */
    if (s->top % DLSI_REKEY_PERIOD / DLS_REPLAY_BITS == 1) dls_wipe(s->recv_past, 32);
}

DLS_API dls_status dls_session_open(dls_session *s, uint64_t ctr, void *to, const void *from,
                                    size_t bytes, const unsigned char *tag16, const void *ad,
                                    size_t ad_bytes) {
    const uint64_t now = (s->top > 0 ? s->top - 1 : 0) / DLSI_REKEY_PERIOD; /* recv_key's period */
    const uint64_t period = ctr / DLSI_REKEY_PERIOD;
    const unsigned char *key = s->recv_key;
    unsigned char nonce[12], ahead[32];
    dls_status status;
    if (ctr >= DLSI_RECORDS_MOST || s->forged >= DLSI_FORGED_MOST) return DLS_E_LIMIT;
    if (ctr < s->top && (s->top - ctr > DLS_REPLAY_BITS ||
                         (s->window[dlsi_session_word(ctr)] & dlsi_session_bit(ctr)) != 0))
        return DLS_E_STATE;
    if (period > now + 1 || period + 1 < now) return DLS_E_STATE;
    if (period < now) key = s->recv_past;
    if (period > now) {
        dlsi_session_rekey(ahead, s->recv_key);
        key = ahead;
    }
    dlsi_noise_nonce(nonce, ctr);
    status = dls_aead_open(to, from, bytes, tag16, ad, ad_bytes, nonce, key);
    if (status == DLS_OK && period > now) {
        memcpy(s->recv_past, s->recv_key, 32);
        memcpy(s->recv_key, ahead, 32);
    }
    if (status == DLS_OK)
        dlsi_session_mark(s, ctr);
    else
        s->forged++;
    if (period > now) dls_wipe(ahead, sizeof ahead);
    return status;
}

DLS_API uint64_t dls_session_counter(const dls_session *s, uint32_t low, uint32_t bits) {
    const uint64_t period = (uint64_t)1 << bits, half = period / 2;
    const uint64_t ctr = (s->top & ~(period - 1)) | (low & (period - 1));
    if (ctr + half <= s->top) return ctr + period;
    if (ctr > s->top + half && ctr >= period) return ctr - period;
    return ctr;
}

DLS_API bool dls_session_stale(const dls_session *s) {
    return s->sent >= DLSI_RECORDS_STALE || s->top >= DLSI_RECORDS_STALE ||
           s->forged >= DLSI_FORGED_STALE;
}

/* ---- Before the handshake ---- */

#define DLSI_COOKIE_US ((uint64_t)120 * 1000 * 1000)

/* Key of one purpose: BLAKE2s(label, psk, responder's key if known). */
DLSI_FN void dlsi_label_key(unsigned char *key32, const char *label, const unsigned char *psk32,
                            const unsigned char *responder32) {
    dls_blake2s b;
    dls_blake2s_init(&b, NULL, 0, 32);
    dls_blake2s_update(&b, label, strlen(label));
    dls_blake2s_update(&b, psk32, 32);
    if (responder32 != NULL) dls_blake2s_update(&b, responder32, 32);
    dls_blake2s_final(&b, key32);
    dls_wipe(&b, sizeof b);
}
DLS_API void dls_mac1(unsigned char *mac16, const unsigned char *psk32,
                      const unsigned char *responder32, const void *packet, size_t bytes) {
    unsigned char key[32];
    dlsi_label_key(key, "dls-mac1", psk32, responder32);
    dls_hash(mac16, 16, key, 32, packet, bytes);
    dls_wipe(key, sizeof key);
}
DLS_API void dls_mac2(unsigned char *mac16, const unsigned char *cookie16, const void *packet,
                      size_t bytes) {
    dls_hash(mac16, 16, cookie16, 16, packet, bytes);
}
DLS_API void dls_announce_mac(unsigned char *mac16, const unsigned char *psk32,
                              const void *packet) {
    unsigned char key[32], other[32];
    dls_hkdf(psk32, "dls-announce", 12, key, other, NULL);
    dls_hash(mac16, 16, key, sizeof key, packet, DLS_ANNOUNCE_BYTES - 16);
    dls_wipe(key, sizeof key);
    dls_wipe(other, sizeof other);
}

DLS_API void dls_cookie_init(dls_cookie *c, const unsigned char *random32, uint64_t now_us) {
    c->since = now_us;
    memcpy(c->secret, random32, 32);
}
DLS_API void dls_cookie_make(dls_cookie *c, const void *address, size_t bytes, uint64_t now_us,
                             unsigned char *cookie16) {
    if (now_us < c->since) c->since = now_us;
    if (now_us - c->since >= DLSI_COOKIE_US) {
        dls_hash(c->secret, 32, c->secret, 32, "dls-cookie-next", 15);
        c->since = now_us;
    }
    dls_hash(cookie16, 16, c->secret, 32, address, bytes);
}
DLS_API void dls_cookie_seal(unsigned char *to44, const unsigned char *cookie16,
                             const unsigned char *nonce12, const unsigned char *mac1_16,
                             const unsigned char *psk32, const unsigned char *responder32) {
    unsigned char key[32];
    dlsi_label_key(key, "dls-cookie", psk32, responder32);
    memcpy(to44, nonce12, 12);
    dls_aead_seal(to44 + 12, to44 + 28, cookie16, 16, mac1_16, 16, nonce12, key);
    dls_wipe(key, sizeof key);
}
DLS_API dls_status dls_cookie_open(unsigned char *cookie16, const unsigned char *from44,
                                   const unsigned char *mac1_16, const unsigned char *psk32,
                                   const unsigned char *responder32) {
    unsigned char key[32];
    dls_status status;
    dlsi_label_key(key, "dls-cookie", psk32, responder32);
    status = dls_aead_open(cookie16, from44 + 12, 16, from44 + 28, mac1_16, 16, from44, key);
    dls_wipe(key, sizeof key);
    return status;
}

/* ---- Identity ---- */

#define DLSI_DEVICE_BYTES 54
#define DLSI_ROSTER_HEAD 12
#define DLSI_SIGNATURE 64
#define DLSI_ROLES 63u

#if DLS_ENABLE_SIGN
/* What is signed: a prefix, so that no signature means two things, and the hash of the rest. */
DLSI_FN size_t dlsi_identity_text(unsigned char *text64, const char *prefix, const void *from,
                                  size_t bytes) {
    const size_t length = strlen(prefix);
    memcpy(text64, prefix, length);
    dls_hash(text64 + length, 32, NULL, 0, from, bytes);
    return length + 32;
}
/* The signature goes behind the bytes. */
DLSI_FN dls_status dlsi_identity_sign(unsigned char *at, size_t bytes, const char *prefix,
                                      const unsigned char *seed32) {
    unsigned char text[64];
    dls_ed25519_sign(at + bytes, text, dlsi_identity_text(text, prefix, at, bytes), seed32);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_identity_verify(const unsigned char *at, size_t bytes, const char *prefix,
                                        const unsigned char *root32) {
    unsigned char text[64];
    if (root32 == NULL) return DLS_OK;
    return dls_ed25519_verify(at + bytes, text, dlsi_identity_text(text, prefix, at, bytes),
                              root32);
}
#else
DLSI_FN dls_status dlsi_identity_sign(unsigned char *at, size_t bytes, const char *prefix,
                                      const unsigned char *seed32) {
    (void)at, (void)bytes, (void)prefix, (void)seed32;
    return DLS_E_UNSUPPORTED;
}
DLSI_FN dls_status dlsi_identity_verify(const unsigned char *at, size_t bytes, const char *prefix,
                                        const unsigned char *root32) {
    (void)at, (void)bytes, (void)prefix;
    return root32 == NULL ? DLS_OK : DLS_E_UNSUPPORTED;
}
#endif

/* Same rules for what we write and what we read. */
DLSI_FN bool dlsi_device_valid(const dls_device *d) {
    static const unsigned char none[32] = {0};
    const bool small = (d->flags & DLS_DEVICE_SMALL) != 0;
    const size_t most = sizeof d->name - 1;
    size_t i = 0;
    while (i < most && d->name[i] >= ' ' && d->name[i] <= '~') i++; /* names reach terminals */
    for (; i <= most; i++)
        if (d->name[i] != '\0') return false;
    if ((d->role & ~DLSI_ROLES) != 0) return false;
    if ((d->flags & ~(DLS_DEVICE_REVOKED | DLS_DEVICE_SMALL)) != 0) return false;
    if (small && (d->role & (DLS_ROLE_COORD | DLS_ROLE_DEPLOY)) != 0) return false;
    return (memcmp(d->public_key, none, 32) == 0) == small;
}
DLSI_FN bool dlsi_cert_valid(const dls_cert *c) {
    return c->first_epoch <= c->last_epoch && dlsi_device_valid(&c->device);
}

DLS_API dls_status dls_cert_write(const dls_cert *cert, const unsigned char *root_seed32,
                                  unsigned char *to) {
    const dls_device *d = &cert->device;
    if (!dlsi_cert_valid(cert)) return DLS_E_ARG;
    to[0] = 1;
    to[1] = d->role;
    dlsi_store16(to + 2, d->flags);
    dlsi_store32(to + 4, d->id);
    memcpy(to + 8, d->public_key, 32);
    dlsi_store32(to + 40, cert->group);
    dlsi_store32(to + 44, cert->first_epoch);
    dlsi_store32(to + 48, cert->last_epoch);
    memcpy(to + 52, d->name, 16);
    return dlsi_identity_sign(to, DLS_CERT_BYTES - DLSI_SIGNATURE, "dlshard/cert/v1", root_seed32);
}
DLS_API dls_status dls_cert_read(dls_cert *cert, const void *from, size_t bytes,
                                 const unsigned char *root_public32) {
    const unsigned char *p = (const unsigned char *)from;
    dls_device *d = &cert->device;
    dls_status status;
    DLSI_ZERO(*cert);
    if (bytes != DLS_CERT_BYTES) return DLS_E_FORMAT;
    if (p[0] != 1) return DLS_E_VERSION;
    status = dlsi_identity_verify(p, bytes - DLSI_SIGNATURE, "dlshard/cert/v1", root_public32);
    if (status != DLS_OK) return status;
    d->role = p[1];
    d->flags = p[2];
    d->id = dlsi_load32(p + 4);
    memcpy(d->public_key, p + 8, 32);
    cert->group = dlsi_load32(p + 40);
    cert->first_epoch = dlsi_load32(p + 44);
    cert->last_epoch = dlsi_load32(p + 48);
    memcpy(d->name, p + 52, 16);
    return p[3] == 0 && dlsi_cert_valid(cert) ? DLS_OK : DLS_E_FORMAT;
}

DLS_API size_t dls_roster_bytes(int32_t count) {
    if (count < 0 || count > DLS_ROSTER_DEVICES) return 0;
    return DLSI_ROSTER_HEAD + DLSI_DEVICE_BYTES * (size_t)count + DLSI_SIGNATURE;
}
DLS_API dls_status dls_roster_write(const dls_roster *roster, const unsigned char *root_seed32,
                                    void *to, size_t bytes) {
    const size_t size = dls_roster_bytes(roster->count);
    unsigned char *p = (unsigned char *)to;
    int32_t i;
    if (size == 0) return DLS_E_ARG;
    if (bytes < size) return DLS_E_MEMORY;
    p[0] = 1;
    p[1] = 0;
    dlsi_store16(p + 2, (uint32_t)roster->count);
    dlsi_store32(p + 4, roster->group);
    dlsi_store32(p + 8, roster->epoch);
    p += DLSI_ROSTER_HEAD;
    for (i = 0; i < roster->count; i++, p += DLSI_DEVICE_BYTES) {
        const dls_device *d = &roster->device[i];
        if (!dlsi_device_valid(d) || (i > 0 && d->id <= d[-1].id)) return DLS_E_ARG;
        dlsi_store32(p, d->id);
        p[4] = d->role;
        p[5] = d->flags;
        memcpy(p + 6, d->public_key, 32);
        memcpy(p + 38, d->name, 16);
    }
    return dlsi_identity_sign((unsigned char *)to, size - DLSI_SIGNATURE, "dlshard/roster/v1",
                              root_seed32);
}
DLS_API dls_status dls_roster_read(dls_roster *roster, dls_device *devices, int32_t devices_max,
                                   const void *from, size_t bytes,
                                   const unsigned char *root_public32) {
    const unsigned char *p = (const unsigned char *)from;
    dls_status status;
    int32_t i, count;
    DLSI_ZERO(*roster);
    if (bytes < DLSI_ROSTER_HEAD) return DLS_E_FORMAT;
    if (p[0] != 1) return DLS_E_VERSION;
    count = (int32_t)dlsi_load16(p + 2);
    if (p[1] != 0 || dls_roster_bytes(count) != bytes) return DLS_E_FORMAT;
    if (count > devices_max) return DLS_E_LIMIT;
    status = dlsi_identity_verify(p, bytes - DLSI_SIGNATURE, "dlshard/roster/v1", root_public32);
    if (status != DLS_OK) return status;
    for (i = 0, p += DLSI_ROSTER_HEAD; i < count; i++, p += DLSI_DEVICE_BYTES) {
        dls_device *d = &devices[i];
        d->id = dlsi_load32(p);
        d->role = p[4];
        d->flags = p[5];
        memcpy(d->public_key, p + 6, 32);
        memcpy(d->name, p + 38, 16);
        if (!dlsi_device_valid(d) || (i > 0 && d->id <= d[-1].id)) return DLS_E_FORMAT;
    }
    p = (const unsigned char *)from;
    roster->group = dlsi_load32(p + 4);
    roster->epoch = dlsi_load32(p + 8);
    roster->count = count;
    roster->device = devices;
    return DLS_OK;
}
DLS_API const dls_device *dls_roster_find(const dls_roster *roster, uint32_t id) {
    int32_t low = 0, high = roster->count;
    while (low < high) {
        const int32_t middle = low + (high - low) / 2;
        if (roster->device[middle].id == id) return &roster->device[middle];
        if (roster->device[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

DLS_API void dls_device_psk(unsigned char *psk32, const unsigned char *group_psk32, uint32_t group,
                            uint32_t id) {
    unsigned char text[18];
    memcpy(text, "dls-device", 10);
    dlsi_store32(text + 10, group);
    dlsi_store32(text + 14, id);
    dls_hash(psk32, 32, group_psk32, 32, text, sizeof text);
}

/* ---- Loss recovery ---- */
/* Times are 32-bit microseconds of the flow's own clock, which never goes back; two of them are
   compared by the sign of their difference. Nothing outlives 18 minutes, see dls_flow_tick. */

enum { DLSI_SENT_DONE = 0, DLSI_SENT_OUT, DLSI_SENT_ACKED, DLSI_SENT_LOST, DLSI_SENT_GONE };
#define DLSI_FLOW_PROBED                                                                           \
    8u /* in state, beside LOST and GONE: given up by a timeout, on suspicion */
enum { DLSI_FLOW_LOSS_TIMER = 1, DLSI_FLOW_ACK_TIMER = 2, DLSI_FLOW_EPOCH = 4, DLSI_FLOW_RUN = 8 };
#define DLSI_FLOW_LATE 64u  /* entries that are done with, looked at for late acks */
#define DLSI_FLOW_KEEP 179u /* of 256: what a loss leaves of the window; CUBIC's 0.7 */

DLSI_FN uint32_t dlsi_flow_clock(const dls_flow *f, uint64_t now) {
    uint64_t ahead = now - f->seen;
    if (ahead > UINT64_MAX / 2) ahead = 0; /* the caller's clock jumped back */
    return f->clock + (uint32_t)dlsi_min_u64(ahead, (uint64_t)1 << 29);
}
DLSI_FN void dlsi_flow_now(dls_flow *f, uint64_t now) {
    f->clock = dlsi_flow_clock(f, now);
    f->seen = now;
    if (f->in_flight == 0) f->pace = f->clock;
}
DLSI_FN bool dlsi_flow_due(const dls_flow *f, uint32_t at) { return (f->clock - at) >> 31 == 0; }
DLSI_FN uint32_t dlsi_min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
DLSI_FN uint32_t dlsi_max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
/* a * b / c, at most UINT32_MAX. */
DLSI_FN uint32_t dlsi_scale(uint32_t a, uint32_t b, uint32_t c) {
    return (uint32_t)dlsi_min_u64((uint64_t)a * b / (c > 0 ? c : 1), UINT32_MAX);
}
DLSI_FN dls_sent *dlsi_flow_at(const dls_flow *f, uint32_t seq) { return &f->ring[seq & f->mask]; }
DLSI_FN bool dlsi_flow_full(const dls_flow *f) { return f->head - f->oldest > f->mask; }
DLSI_FN bool dlsi_flow_slow(const dls_flow *f) { return f->window < f->threshold; }

DLS_API dls_status dls_flow_init(dls_flow *f, dls_sent *ring, int32_t ring_max, uint32_t mtu_bytes,
                                 uint64_t now) {
    DLSI_ZERO(*f);
    if (ring == NULL || ring_max < 4 || ring_max > 32768 || (ring_max & (ring_max - 1)) != 0 ||
        mtu_bytes < 1 || mtu_bytes > 65535)
        return DLS_E_ARG;
    memset(ring, 0, (size_t)ring_max * sizeof *ring);
    f->ring = ring;
    f->mask = (uint32_t)ring_max - 1;
    f->mtu = mtu_bytes;
    f->seen = now;
    f->window = 10 * mtu_bytes;
    f->threshold = f->min_rtt = f->min_next = f->near = f->near_before = UINT32_MAX;
    f->srtt = 333000;
    f->rttvar = 333000 / 2;
    f->max_ack_delay = 4000;
    f->ack_every = 2;
    f->reorder = 3;
    f->wait_eighths = 9;
    return DLS_OK;
}

/* ---- Loss recovery: sending ---- */

/* Microseconds until the window has gone out once; a little faster than it is acked, so that the
   window rules. */
DLSI_FN uint32_t dlsi_flow_pace(const dls_flow *f, uint32_t bytes) {
    const uint32_t time = dlsi_scale(bytes, f->srtt, f->window);
    if (f->min_rtt == UINT32_MAX) return 0;
    return dlsi_flow_slow(f) ? time / 2 : time - time / 5;
}
DLS_API uint32_t dls_flow_room(dls_flow *f, uint64_t now) {
    uint32_t room, late;
    dlsi_flow_now(f, now);
    if (dlsi_flow_full(f)) return 0;
    if (f->probes > 0) return f->mtu;
    if (f->in_flight + f->mtu > f->window || !dlsi_flow_due(f, f->pace)) return 0;
    room = f->window - f->in_flight;
    late = dlsi_min_u32(f->clock - f->pace, 1000);
    if (f->min_rtt != UINT32_MAX)
        room = dlsi_min_u32(room, f->mtu + dlsi_scale(late, f->mtu, dlsi_flow_pace(f, f->mtu)));
    return dlsi_min_u32(room, (f->mask + 1 - (f->head - f->oldest)) * f->mtu);
}
DLS_API void dls_flow_sent(dls_flow *f, uint64_t pn, uint32_t bytes, bool eliciting,
                           const uint32_t *ref4, uint64_t now) {
    dls_sent *e = dlsi_flow_at(f, f->head);
    dlsi_flow_now(f, now);
    f->pn_sent = pn;
    if (!eliciting) return;
    DLS_ASSERT(!dlsi_flow_full(f) && bytes >= 1 && bytes <= 65535);
    memcpy(e->ref, ref4, sizeof e->ref);
    e->pn = (uint32_t)(pn & UINT32_MAX);
    e->time = f->last_sent = f->clock;
    e->bytes = (uint16_t)bytes;
    e->state = DLSI_SENT_OUT;
    if (f->in_flight == 0) { /* after a rest */
        f->round_at = f->clock;
        f->round_bytes = 0;
        f->flags &= (uint8_t)~DLSI_FLOW_EPOCH;
    }
    f->head++;
    f->in_flight += bytes;
    f->peak = dlsi_max_u32(f->peak, f->in_flight);
    if (f->probes > 0) f->probes--;
    /* credit for being late is worth 1 ms: what a coarse timer or a busy machine needs */
    if (dlsi_flow_due(f, f->pace + 1000)) f->pace = f->clock - 1000;
    f->pace += dlsi_flow_pace(f, bytes);
}

/* ---- Loss recovery: acks to the peer ---- */

/* A run that would be too long to count forgets its oldest part, and the runs below it. */
DLSI_FN void dlsi_flow_more(dls_flow *f, int32_t i) {
    if (f->run[i] < 65535)
        f->run[i]++;
    else
        f->runs = (uint8_t)(i + 1);
}
DLSI_FN void dlsi_flow_insert(dls_flow *f, int32_t i) {
    int32_t k;
    if (f->runs < DLS_FLOW_RUNS) f->runs++;
    for (k = f->runs - 1; k > i; k--) {
        f->run[k] = f->run[k - 1];
        f->gap[k] = f->gap[k - 1];
        f->told[k] = f->told[k - 1];
    }
    f->run[i] = 1;
    f->told[i] = 0;
}
/* Run i + 1 touches run i: one run now. */
DLSI_FN void dlsi_flow_join(dls_flow *f, int32_t i) {
    const uint32_t sum = (uint32_t)f->run[i] + f->run[i + 1];
    int32_t k;
    f->run[i] = (uint16_t)dlsi_min_u32(sum, 65535);
    f->runs--;
    if (sum > 65535) f->runs = (uint8_t)(i + 1);
    for (k = i + 1; k < f->runs; k++) {
        f->run[k] = f->run[k + 1];
        f->gap[k] = f->gap[k + 1];
        f->told[k] = f->told[k + 1];
    }
}
/* Puts the packet `down` below the greatest into its place among the runs. */
DLSI_FN void dlsi_flow_below(dls_flow *f, uint32_t down) {
    uint32_t end = 0, next = 0; /* below run i; where run i + 1 begins */
    int32_t i;
    for (i = -1; down >= next; i++, next = i + 1 < f->runs ? end + f->gap[i + 1] : UINT32_MAX)
        end = next + f->run[i + 1];
    if (down < end) return; /* told already */
    if (down == end) {
        dlsi_flow_more(f, i);
        f->told[i] = 0;
        if (i + 1 < f->runs && --f->gap[i + 1] == 0) dlsi_flow_join(f, i);
    } else if (down + 1 == next) {
        f->gap[i + 1]--;
        f->told[i + 1] = 0;
        dlsi_flow_more(f, i + 1);
    } else if (i + 1 < DLS_FLOW_RUNS && down - end <= 65535) {
        dlsi_flow_insert(f, i + 1);
        f->gap[i + 1] = (uint16_t)(down - end);
        if (i + 2 < f->runs) f->gap[i + 2] = (uint16_t)(next - down - 1);
    } /* else too old to tell */
}
DLS_API void dls_flow_received(dls_flow *f, uint64_t pn, bool eliciting, uint64_t now) {
    bool in_order = true;
    dlsi_flow_now(f, now);
    if (f->runs == 0 || pn > f->pn_got) {
        const uint64_t gap = f->runs == 0 ? 0 : pn - f->pn_got - 1;
        in_order = gap == 0;
        if (gap > 65535) f->runs = 0; /* whatever came before is told or lost */
        if (f->runs == 0 || gap > 0) {
            dlsi_flow_insert(f, 0);
            if (f->runs > 1) f->gap[1] = (uint16_t)gap;
        } else
            dlsi_flow_more(f, 0);
        f->told[0] = 0;
        f->pn_got = pn;
        f->got_at = f->clock;
    } else {
        in_order = false;
        if (f->pn_got - pn < UINT32_MAX) dlsi_flow_below(f, (uint32_t)(f->pn_got - pn));
    }
    if (!eliciting) return;
    if (f->ack_wait == 0) f->ack_at = f->clock + f->max_ack_delay;
    if (f->ack_wait < 255) f->ack_wait++;
    if (!in_order) f->ack_wait = 255;
}
DLS_API bool dls_flow_ack_due(const dls_flow *f, uint64_t now) {
    return f->ack_wait > 0 &&
           (f->ack_wait >= f->ack_every || (dlsi_flow_clock(f, now) - f->ack_at) >> 31 == 0);
}
DLSI_FN size_t dlsi_leb_write(unsigned char *to, uint32_t v) {
    size_t n = 0;
    for (; v > 127; v >>= 7) to[n++] = (unsigned char)((v & 127u) | 128u);
    to[n++] = (unsigned char)v;
    return n;
}
DLS_API size_t dls_flow_ack_write(dls_flow *f, void *to, size_t max, uint64_t now) {
    unsigned char *p = (unsigned char *)to, part[6];
    size_t at = 7;
    int32_t i;
    dlsi_flow_now(f, now);
    if (f->runs == 0 || max < 7) return 0;
    dlsi_store32(p, (uint32_t)(f->pn_got & UINT32_MAX));
    dlsi_store16(p + 4, dlsi_min_u32(f->clock - f->got_at, 65535));
    for (i = 0; i < f->runs; i++) {
        size_t n = i == 0 ? 0 : dlsi_leb_write(part, f->gap[i] - 1u);
        n += dlsi_leb_write(part + n, f->run[i] - 1u);
        if (at + n > max) break;
        memcpy(p + at, part, n);
        at += n;
    }
    if (i == 0) return 0;
    p[6] = (unsigned char)i;
    while (--i > 0) f->told[i]++;
    /* what 8 acks told is forgotten: one of them arrived, and acks stay short */
    while (f->runs > 1 && f->told[f->runs - 1] >= 8) f->runs--;
    f->ack_wait = 0;
    return at;
}

/* ---- Loss recovery: round-trip times ---- */

DLSI_FN uint32_t dlsi_flow_near(const dls_flow *f) {
    return f->samples >= 8 ? f->near : dlsi_min_u32(f->near, f->near_before);
}
/* Delay of the queue in front of us. */
DLSI_FN uint32_t dlsi_flow_queue(const dls_flow *f) {
    const uint32_t near = dlsi_flow_near(f);
    return near > f->min_rtt ? near - f->min_rtt : 0;
}
DLSI_FN void dlsi_flow_rtt(dls_flow *f, uint32_t rtt, uint32_t delay) {
    const bool first = f->min_rtt == UINT32_MAX;
    uint32_t off;
    rtt = dlsi_max_u32(rtt, 1);
    f->min_rtt = dlsi_min_u32(f->min_rtt, rtt);
    f->min_next = dlsi_min_u32(f->min_next, rtt);
    if (f->clock - f->min_at > 10000000) { /* the least of the last 10 to 20 s */
        f->min_rtt = f->min_next;
        f->min_next = UINT32_MAX;
        f->min_at = f->clock;
    }
    if (rtt - f->min_rtt >= delay) rtt -= delay;
    f->latest = rtt;
    f->near = dlsi_min_u32(f->near, rtt);
    if (f->samples < 255) f->samples++;
    if (first) {
        f->srtt = rtt;
        f->rttvar = rtt / 2;
        return;
    }
    off = f->srtt > rtt ? f->srtt - rtt : rtt - f->srtt;
    f->rttvar = f->rttvar - f->rttvar / 4 + off / 4;
    f->srtt = f->srtt - f->srtt / 8 + rtt / 8;
}
/* The timeout of RFC 9002 6.2.1 without back-off. */
DLSI_FN uint32_t dlsi_flow_pto(const dls_flow *f) {
    return f->srtt + dlsi_max_u32(4 * f->rttvar, 1000) + f->max_ack_delay;
}
/* When the timeout fires. Doubled each time, but a probe a second costs little, and finds a link
   that is back again soon. */
DLSI_FN uint32_t dlsi_flow_pto_at(const dls_flow *f) {
    const uint32_t base = dlsi_flow_pto(f);
    const uint32_t most = dlsi_max_u32(base, 1000000);
    const uint32_t wait = f->pto_count > 10 ? most : dlsi_min_u32(base << f->pto_count, most);
    return f->last_sent + wait;
}

/* ---- Loss recovery: congestion control ----
   CUBIC (RFC 9438), so that TCP beside us gets its share, with one change, H-TCP's adaptive backoff
   (D. Leith, R. Shorten, 2004; Westwood sets the same window): a loss leaves of the window what fills
   the pipe without its queue, window * least RTT / RTT now, and at least CUBIC's 0.7. A loss while
   there is no queue is a radio's, not a router's: it costs nothing. With a long queue it costs what
   it costs a TCP. RTT now is the least of a round trip, so that jitter passes for no queue. Two
   guards: a round that loses over 1/8 of its packets backs off whatever the delay says (a queue too
   short to measure); a window that makes no queue grows by 1/16 a round trip. */

/* Window of CUBIC `ms` after the last backoff. */
DLSI_FN uint32_t dlsi_flow_cubic(const dls_flow *f, uint32_t ms) {
    int64_t d = (int64_t)dlsi_min_u32(ms, 200000) - (int64_t)f->epoch_k;
    d = d * d * d / 1000 * (int64_t)f->mtu / 2500000 + (int64_t)f->w_max; /* C is 0.4 packets/s^3 */
    return d < 0 ? 0 : (uint32_t)dlsi_min_u64((uint64_t)d, UINT32_MAX);
}
/* Cube root (Hacker's Delight 11-2), of less than 2^63. */
DLSI_FN uint32_t dlsi_cube_root(uint64_t x) {
    uint64_t y = 0;
    int32_t s;
    for (s = 60; s >= 0; s -= 3) {
        const uint64_t b = (3 * (2 * y) * (2 * y + 1) + 1) << s;
        y *= 2;
        if (x >= b) {
            x -= b;
            y++;
        }
    }
    return (uint32_t)y;
}
DLSI_FN void dlsi_flow_epoch(dls_flow *f) {
    f->flags |= DLSI_FLOW_EPOCH;
    f->epoch = f->clock;
    f->reno = f->window;
    f->w_max = dlsi_max_u32(f->w_max, f->window);
    f->epoch_k = dlsi_cube_root((uint64_t)(f->w_max - f->window) * 2500000000u / f->mtu);
}
DLSI_FN void dlsi_flow_bound(dls_flow *f, uint32_t window) {
    const uint32_t most = dlsi_scale(f->mask + 1, f->mtu, 1);
    f->window = dlsi_max_u32(dlsi_min_u32(window, most), 2 * f->mtu);
}
/* `bytes` sent after the last backoff were acked. */
DLSI_FN void dlsi_flow_grow(dls_flow *f, uint32_t bytes) {
    const uint32_t peak = dlsi_max_u32(f->peak, f->peak_before);
    const uint32_t queue = dlsi_flow_queue(f);
    uint32_t target;
    if (dlsi_flow_slow(f)) {
        if (f->samples >= 8 && queue > f->min_rtt / 4 + 200)
            f->threshold = f->window; /* a queue has begun: HyStart++, RFC 9406 */
        else if (f->window <= 2 * peak)
            dlsi_flow_bound(f, f->window + bytes);
        return;
    }
    if (f->window > peak + peak / 4 + 2 * f->mtu) { /* the caller has less to say */
        f->flags &= (uint8_t)~DLSI_FLOW_EPOCH;
        return;
    }
    if ((f->flags & DLSI_FLOW_EPOCH) == 0) dlsi_flow_epoch(f);
    /* CUBIC's equal of a Reno with 0.53 packets a round trip, one above the old window */
    target = dlsi_scale(bytes, f->mtu, f->window);
    f->reno += f->reno < f->w_max ? target - target * 15 / 32 : target;
    target = dlsi_flow_cubic(f, (f->clock - f->epoch + f->srtt) / 1000);
    target = dlsi_min_u32(dlsi_max_u32(target, f->reno), f->window + f->window / 2);
    if (queue <= f->min_rtt / 16) target = dlsi_max_u32(target, f->window + f->window / 16);
    if (target > f->window)
        dlsi_flow_bound(f, f->window + dlsi_scale(target - f->window, bytes, f->window));
}
/* Packet seq is lost. What that says of the path; at most one backoff a round trip. */
DLSI_FN void dlsi_flow_backoff(dls_flow *f, uint32_t seq) {
    uint32_t keep = dlsi_scale(f->min_rtt, 256, dlsi_max_u32(f->min_rtt, dlsi_flow_near(f)));
    if ((seq - f->recovery) >> 31 != 0) return;
    if (f->round_lost >= 6 && f->round_lost > f->round_acked / 8) keep = 0;
    if (keep > 240) return;
    f->undo_window = f->window;
    f->undo_seq = seq;
    /* fast convergence: who has less than before makes room for a newcomer */
    f->w_max = f->window < f->w_max ? dlsi_scale(f->window, 217, 256) : f->window;
    dlsi_flow_bound(f, dlsi_scale(f->window, dlsi_max_u32(keep, DLSI_FLOW_KEEP), 256));
    f->threshold = f->window;
    f->recovery = f->head;
    f->flags &= (uint8_t)~DLSI_FLOW_EPOCH;
}

/* ---- Loss recovery: losses ---- */

DLSI_FN void dlsi_flow_lose(dls_flow *f, uint32_t seq, unsigned probed) {
    dls_sent *e = dlsi_flow_at(f, seq);
    f->in_flight -= e->bytes;
    e->state = (uint8_t)(DLSI_SENT_LOST | probed);
    f->lost++;
    if ((f->flags & DLSI_FLOW_RUN) == 0) f->run_first = e->time;
    f->run_last = e->time;
    f->flags |= DLSI_FLOW_RUN;
    if (probed != 0) return;
    if (f->round_lost < 65535) f->round_lost++;
    dlsi_flow_backoff(f, seq);
}
/* Everything older than the newest packet acked is lost that is far enough behind it. */
DLSI_FN void dlsi_flow_detect(dls_flow *f) {
    const uint32_t rtt = dlsi_max_u32(f->srtt, f->latest);
    const uint32_t wait = dlsi_max_u32(dlsi_scale(rtt, f->wait_eighths, 8), 1000);
    uint32_t seq;
    f->flags &= (uint8_t)~DLSI_FLOW_LOSS_TIMER;
    for (seq = f->oldest; (seq - f->newest) >> 31 != 0; seq++) {
        const dls_sent *e = dlsi_flow_at(f, seq);
        if (e->state != DLSI_SENT_OUT) continue;
        if (f->newest - seq < f->reorder && !dlsi_flow_due(f, e->time + wait)) {
            f->flags |= DLSI_FLOW_LOSS_TIMER;
            f->loss_at = e->time + wait;
            return;
        }
        dlsi_flow_lose(f, seq, 0);
    }
}
/* A packet given up for lost was acked: the path reorders more than we thought. */
DLSI_FN void dlsi_flow_spurious(dls_flow *f, uint32_t seq) {
    const uint32_t far = f->newest - seq + 1;
    if (f->spurious < 65535) f->spurious++;
    if (far < 128) f->reorder = (uint16_t)dlsi_max_u32(f->reorder, far);
    if (f->wait_eighths < 16) f->wait_eighths++;
    if (seq == f->undo_seq && f->undo_window > f->window) {
        dlsi_flow_bound(f, f->undo_window);
        f->threshold = f->window;
    }
}
/* RFC 9002 7.6: all of a long time lost. */
DLSI_FN void dlsi_flow_persistent(dls_flow *f) {
    if ((f->flags & DLSI_FLOW_RUN) == 0 || f->run_last - f->run_first < 3 * dlsi_flow_pto(f))
        return;
    f->flags &= (uint8_t) ~(DLSI_FLOW_RUN | DLSI_FLOW_EPOCH);
    f->threshold = dlsi_max_u32(dlsi_scale(f->window, DLSI_FLOW_KEEP, 256), 2 * f->mtu);
    f->window = 2 * f->mtu;
    f->recovery = f->head;
    f->min_rtt = f->min_next = f->latest; /* it may be another path now */
    f->min_at = f->clock;
}
DLS_API void dls_flow_tick(dls_flow *f, uint64_t now) {
    uint32_t seq;
    dlsi_flow_now(f, now);
    if ((f->flags & DLSI_FLOW_LOSS_TIMER) != 0) {
        if (dlsi_flow_due(f, f->loss_at)) dlsi_flow_detect(f);
        return;
    }
    if (f->in_flight == 0 || !dlsi_flow_due(f, dlsi_flow_pto_at(f))) return;
    if (f->pto_count < 255) f->pto_count++;
    f->last_sent = f->clock;
    f->probes = 2;
    /* RFC 9002 sends new data or old; here the two oldest are handed out as lost to be the probes */
    for (seq = f->oldest; seq != f->head; seq++) {
        const dls_sent *e = dlsi_flow_at(f, seq);
        if (e->state != DLSI_SENT_OUT) continue;
        if (f->lost >= 2 && f->clock - e->time < 0x40000000u) break;
        dlsi_flow_lose(f, seq, DLSI_FLOW_PROBED);
    }
}
DLS_API bool dls_flow_probe(const dls_flow *f) { return f->probes > 0 && !dlsi_flow_full(f); }
DLS_API uint64_t dls_flow_deadline(const dls_flow *f) {
    uint32_t first = UINT32_MAX; /* from f->clock; what is overdue is due now */
    if (f->ack_wait > 0) {
        first = f->ack_at - f->clock;
        if (f->ack_wait >= f->ack_every || first >> 31 != 0) first = 0;
    }
    if (f->in_flight > 0) {
        const bool loss = (f->flags & DLSI_FLOW_LOSS_TIMER) != 0;
        const uint32_t wait = (loss ? f->loss_at : dlsi_flow_pto_at(f)) - f->clock;
        first = dlsi_min_u32(first, wait >> 31 != 0 ? 0 : wait);
    }
    if (!dlsi_flow_full(f) && f->in_flight + f->mtu <= f->window && !dlsi_flow_due(f, f->pace))
        first = dlsi_min_u32(first, f->pace - f->clock);
    return first == UINT32_MAX ? UINT64_MAX : f->seen + first;
}

/* ---- Loss recovery: acks from the peer ---- */

DLSI_FN const unsigned char *dlsi_leb_read(const unsigned char *p, const unsigned char *end,
                                           uint32_t *v) {
    uint32_t shift = 0;
    *v = 0;
    for (;; shift += 7) {
        if (p == end || shift > 14) return NULL;
        *v |= (uint32_t)(*p & 127u) << shift;
        if (*p++ < 128) break;
    }
    return *v > 65535 || (shift > 0 && *v >> shift == 0) ? NULL : p;
}
/* First packet in the ring, also of the last that are done with, whose counter is at least pn. */
DLSI_FN uint32_t dlsi_flow_find(const dls_flow *f, uint32_t pn) {
    const uint32_t room = f->mask + 1 - (f->head - f->oldest);
    uint32_t high = f->head, low = f->oldest;
    low -= dlsi_min_u32(low, dlsi_min_u32(room, DLSI_FLOW_LATE));
    while (low != high) {
        const uint32_t mid = low + (high - low) / 2;
        if ((dlsi_flow_at(f, mid)->pn - pn) >> 31 != 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}
typedef struct dlsi_ack {
    uint32_t bytes, packets, newest; /* acked now; of those sent after the last backoff; place */
    bool any;
} dlsi_ack;
DLSI_FN void dlsi_flow_acked(dls_flow *f, dlsi_ack *a, uint32_t seq) {
    dls_sent *e = dlsi_flow_at(f, seq);
    const unsigned state = e->state & 7u;
    if (state == DLSI_SENT_DONE || state == DLSI_SENT_ACKED) return;
    if ((e->time - f->run_first) >> 31 == 0 && (f->run_last - e->time) >> 31 == 0)
        f->flags &= (uint8_t)~DLSI_FLOW_RUN;
    if (state != DLSI_SENT_OUT && (e->state & DLSI_FLOW_PROBED) == 0) dlsi_flow_spurious(f, seq);
    if (state == DLSI_SENT_GONE) {
        e->state = DLSI_SENT_DONE;
        return;
    }
    if (state == DLSI_SENT_LOST)
        f->lost--;
    else {
        f->in_flight -= e->bytes;
        f->round_bytes += e->bytes;
        if (f->round_acked < 65535) f->round_acked++;
        if ((seq - f->recovery) >> 31 == 0) a->bytes += e->bytes;
        if (!a->any || (seq - a->newest) >> 31 == 0) a->newest = seq;
        a->any = true;
    }
    e->state = DLSI_SENT_ACKED;
    f->acked++;
}
DLSI_FN void dlsi_flow_acked_run(dls_flow *f, dlsi_ack *a, uint32_t first, uint32_t last) {
    uint32_t seq = dlsi_flow_find(f, first);
    for (; seq != f->head && (last - dlsi_flow_at(f, seq)->pn) >> 31 == 0; seq++)
        dlsi_flow_acked(f, a, seq);
}
/* The runs of an ack's body, pn the greatest; a NULL: only whether they are well formed. Returns
   the end of the body, or NULL. */
DLSI_FN const unsigned char *dlsi_flow_runs(dls_flow *f, dlsi_ack *a, const unsigned char *p,
                                            const unsigned char *end, uint64_t pn) {
    uint32_t left, gap, run;
    for (left = *p++; left > 0; left--) {
        p = dlsi_leb_read(p, end, &run);
        if (p == NULL || run > pn) return NULL;
        if (a != NULL)
            dlsi_flow_acked_run(f, a, (uint32_t)((pn - run) & UINT32_MAX),
                                (uint32_t)(pn & UINT32_MAX));
        if (left == 1) break;
        p = dlsi_leb_read(p, end, &gap);
        if (p == NULL || pn < (uint64_t)run + gap + 2) return NULL;
        pn -= (uint64_t)run + gap + 2;
    }
    return p;
}
/* A round trip ends when the first packet sent in it is acked. */
DLSI_FN void dlsi_flow_round(dls_flow *f, uint32_t newest) {
    const uint32_t time = f->clock - f->round_at;
    if ((newest - f->round) >> 31 != 0) return;
    f->round = f->head;
    f->peak_before = f->peak;
    f->peak = f->in_flight;
    f->near_before = dlsi_flow_near(f);
    f->near = UINT32_MAX;
    f->samples = 0;
    f->round_lost = f->round_acked = 0;
    if ((f->oldest - f->recovery) >> 31 == 0) f->recovery = f->oldest; /* 2^31 packets on, too */
    if (time >= 10000) {
        const uint32_t rate = dlsi_scale(f->round_bytes, 1000000, time);
        f->rate = f->rate == 0 ? rate : f->rate - f->rate / 4 + rate / 4;
        f->round_bytes = 0;
        f->round_at = f->clock;
    }
}
DLS_API dls_status dls_flow_ack_read(dls_flow *f, const void *from, size_t bytes, size_t *used,
                                     uint64_t now) {
    const unsigned char *p = (const unsigned char *)from, *end;
    dlsi_ack a;
    uint32_t behind;
    uint64_t pn;
    dlsi_flow_now(f, now);
    DLSI_ZERO(a);
    if (bytes < 8 || p[6] < 1 || p[6] > DLS_FLOW_RUNS) return DLS_E_FORMAT;
    behind = (uint32_t)((f->pn_sent - dlsi_load32(p)) & UINT32_MAX);
    if (f->head == 0 || behind >> 31 != 0 || behind > f->pn_sent) return DLS_E_FORMAT;
    pn = f->pn_sent - behind;
    end = dlsi_flow_runs(f, NULL, p + 6, p + bytes, pn);
    if (end == NULL) return DLS_E_FORMAT;
    *used = (size_t)(end - p);
    (void)dlsi_flow_runs(f, &a, p + 6, p + bytes, pn);
    if (!a.any) return DLS_OK;
    if ((a.newest - f->newest) >> 31 == 0) f->newest = a.newest;
    if (dlsi_flow_at(f, a.newest)->pn == (uint32_t)(pn & UINT32_MAX)) /* else its age is unknown */
        dlsi_flow_rtt(f, f->clock - dlsi_flow_at(f, a.newest)->time, dlsi_load16(p + 4));
    f->pto_count = f->probes = 0;
    behind = f->recovery;
    dlsi_flow_detect(f);
    dlsi_flow_persistent(f);
    if ((dlsi_flow_at(f, f->newest)->time - f->run_last) >> 31 == 0)
        f->flags &= (uint8_t)~DLSI_FLOW_RUN;
    if (f->recovery == behind && a.bytes > 0) dlsi_flow_grow(f, a.bytes);
    dlsi_flow_round(f, a.newest);
    return DLS_OK;
}
DLSI_FN bool dlsi_flow_settled(const dls_flow *f, uint32_t seq) {
    const unsigned state = dlsi_flow_at(f, seq)->state & 7u;
    return state == DLSI_SENT_DONE || state == DLSI_SENT_GONE;
}
/* Takes out an entry in `state`, which becomes `then`. */
DLSI_FN bool dlsi_flow_take(dls_flow *f, uint32_t *ref4, unsigned state, unsigned then,
                            uint16_t *left) {
    uint32_t seq;
    if (*left == 0) return false;
    for (seq = f->oldest; seq != f->head; seq++) {
        dls_sent *e = dlsi_flow_at(f, seq);
        if ((e->state & 7u) != state) continue;
        memcpy(ref4, e->ref, sizeof e->ref);
        e->state = (uint8_t)(then | (e->state & DLSI_FLOW_PROBED));
        (*left)--;
        break;
    }
    while (f->oldest != f->head && dlsi_flow_settled(f, f->oldest)) f->oldest++;
    return true;
}
DLS_API bool dls_flow_next_acked(dls_flow *f, uint32_t *ref4) {
    return dlsi_flow_take(f, ref4, DLSI_SENT_ACKED, DLSI_SENT_DONE, &f->acked);
}
DLS_API bool dls_flow_next_lost(dls_flow *f, uint32_t *ref4) {
    return dlsi_flow_take(f, ref4, DLSI_SENT_LOST, DLSI_SENT_GONE, &f->lost);
}
DLS_API void dls_flow_report(const dls_flow *f, dls_flow_stats *to) {
    const bool measured = f->min_rtt != UINT32_MAX;
    to->srtt_us = measured ? f->srtt : 0;
    to->min_rtt_us = measured ? f->min_rtt : 0;
    to->window_bytes = f->window;
    to->in_flight_bytes = f->in_flight;
    to->rate_bytes = f->rate;
    to->pto_count = f->pto_count;
    to->spurious = f->spurious;
}

/* ------------------------------------------------------------------------------------------------
   >>peer.impl                              deps: config base port crypt wire chan peer.api
   A port carries sessions, one each for SERIAL and STREAM. A session is the way to one device:
   keys, loss recovery, a queue of control messages. Ops belong to a rank, not to a session: a WANT goes
   out for each receive, and what it asks for comes in chunks that name it. Packets that lose their
   way are made again from what they carried (dls_flow's ref): first control message and count, op
   and part of it. A session through a gateway writes its packets into RELAY frames of the session
   with the gateway, `via`. */

#define DLSI_SPANS (DLSI_HOSTED ? 32 : 4) /* pieces a receive may have beyond its first gap */
#define DLSI_TAG_ROSTER 0xFFFFFFFEu
#define DLSI_HOPS 4
#define DLSI_RELAY_BYTES 34  /* a packet in a RELAY frame is shorter than the one around it */
#define DLSI_RELAY_LEAST 160 /* packets to those whose way back is not known yet */
#define DLSI_NOBODY 0xFFFFFFFFu
#define DLSI_SES_MAX 2048u /* an index is the session's number and how often it was used */
#define DLSI_CALLS_MAX 10  /* unanswered INITs before a session is given up */
#define DLSI_CLEAR_CHUNK 1048576u

enum { DLSI_OP_FREE = 0, DLSI_OP_SEND, DLSI_OP_RECV };
/* matched, of a send: a want for it is here; of a receive: its WANT was sent. begun: its first
   chunk was sent or came. */
typedef struct dlsi_op {
    unsigned char *data;
    uint32_t bytes, done, next, tag, order, want;
    int32_t rank, status; /* status: -1 under way */
    uint8_t kind, priority, spans;
    bool matched, begun, own; /* own: the engine's, nobody waits for it */
    struct {
        uint32_t at, end;
    } span[DLSI_SPANS]; /* a receive's pieces beyond `done`, ascending */
} dlsi_op;
typedef struct dlsi_want { /* of a peer, for which there is no send yet */
    uint32_t id, tag, bytes, from, order;
    int32_t rank; /* -1: free */
} dlsi_want;

enum { DLSI_SES_FREE = 0, DLSI_SES_CALLING, DLSI_SES_HALF, DLSI_SES_UP, DLSI_SES_LEAVING };
typedef struct dlsi_ses {
    dls_session record;
    dls_flow flow;
    dls_sent *ring;
    unsigned char *control;
    uint64_t heard, spoke, again, since;
    uint32_t index, their_index, boot, epoch;
    uint32_t routes;  /* sum of the ROUTES said last */
    uint32_t lost[4]; /* ref of a packet to be made again, when has_lost */
    int32_t rank, port, via, hand;
    uint16_t control_used, control_count, control_sent, control_first, control_expected;
    uint16_t wants, wants_max, calls; /* receives asked for and not begun; most that they keep */
    dls_addr addr;
    uint8_t state, pattern, answer; /* answer: bytes of a RESP that waits in control */
    bool lossy, clear, hello, ping, has_lost, cookie, turn;
    unsigned char cookie16[16];
} dlsi_ses;
typedef struct dlsi_hand { /* a handshake we began */
    dls_noise noise;
    int32_t ses;
    unsigned char mac1[16];
} dlsi_hand;

enum { DLSI_RX_LENGTH = 0, DLSI_RX_PEEK, DLSI_RX_REST, DLSI_RX_BODY };
typedef struct dlsi_port {
    dls_port_desc desc;
    dls_cobs cobs;
    unsigned char *in, *out;
    size_t in_used, in_need, body_left, out_at, out_used, chunk_left;
    unsigned char length[4];
    uint64_t since;
    int32_t ses, rx_op, tx_op; /* rx_op: -1 while a body is thrown away */
    uint32_t turn, rx_at, rx_want, tx_order;
    uint8_t rx;
    bool open, done;
} dlsi_port;

typedef struct dlsi_member {
    dls_device device;
    uint64_t newest;   /* boot and sequence of its latest INIT */
    uint64_t again;    /* when to call it again */
    uint32_t stamp[3]; /* when each event happened */
    int32_t ses;       /* its session, -1: not up */
    int32_t route;     /* session of a gateway that knows it, -1: none */
    int32_t call_port; /* -1: no address known */
    dls_addr call_addr;
    uint16_t calls, route_mtu;
    uint8_t hops, events, status;
    bool vote;
} dlsi_member;

typedef struct dlsi_view {
    uint32_t number, term, coordinator, count;
    struct {
        uint32_t id, boot;
    } * member;
} dlsi_view;
enum { DLSI_FOLLOW = 0, DLSI_ASK, DLSI_CANDIDATE, DLSI_LEAD };

struct dls_peer {
    dls_peer_desc desc;
    unsigned char secret[32], public_key[32], psk[32], root[32];
    dlsi_member *member;
    dlsi_ses *ses;
    dlsi_port *port;
    dlsi_op *op;
    dlsi_want *want;
    dlsi_hand *hand;
    dls_device *incoming; /* a roster being read */
    int32_t *view_rank;
    unsigned char *relay, *state;
    int32_t me, count, wants, hands, relay_used;
    uint32_t group, epoch, order, stamp, sequence, serial;
    const unsigned char *roster; /* signed bytes of `epoch`, for peers with an older one */
    unsigned char *roster_space;
    size_t roster_bytes, roster_room;
    int32_t roster_op, roster_from;
    dls_cookie cookie;
    uint64_t load_since;
    int32_t load;
    struct {
        unsigned char bytes[DLS_COOKIE_BYTES];
        dls_addr to;
        int32_t port; /* -1: none waits */
    } reply;
    dlsi_view view, accepted; /* decided; last one I proposed or accepted */
    uint64_t elect_at, settle_at, ticked;
    uint32_t term, voted, leader, again; /* again: number of a view that must be replaced */
    uint8_t role, events, my_role;
    bool leaving, pending, routes_due, store_failed;
};

/* What is used before its place. */
DLSI_FN dls_status dlsi_views_open(dls_peer *p);
DLSI_FN void dlsi_views_changed(dls_peer *p);
DLSI_FN void dlsi_views_hello(dls_peer *p, int32_t rank);
DLSI_FN size_t dlsi_relay_put(dls_peer *p, int32_t i, unsigned char *to, size_t max, uint64_t now);
DLSI_FN dls_status dlsi_peer_packet(dls_peer *p, int32_t port, int32_t via, const dls_addr *from,
                                    unsigned char *packet, size_t n, uint64_t now);

/* ---- Desc and layout ---- */

DLSI_FN dls_peer_desc dlsi_peer_desc(const dls_peer_desc *desc) {
    dls_peer_desc d = *desc;
    if (d.roster != NULL) d.size = d.roster->count;
    d.devices_max = dlsi_or(d.devices_max, d.size);
    d.sessions_max = dlsi_or(d.sessions_max, d.size + 4);
    d.ports_max = dlsi_or(d.ports_max, d.sessions_max + 4);
    d.ops_max = dlsi_or(d.ops_max, DLSI_HOSTED ? 32 : 8);
    d.window = dlsi_or(d.window, DLSI_HOSTED ? 512 : 8);
    d.control_bytes = dlsi_or(d.control_bytes, DLSI_HOSTED ? 2048 : 256);
    d.relay_bytes = dlsi_or(d.relay_bytes, d.gateway ? 65536 : 0);
    if (d.heartbeat_us == 0) d.heartbeat_us = 200000;
    if (d.timeout_us == 0) d.timeout_us = 2000000;
    return d;
}
DLSI_FN bool dlsi_peer_good(const dls_peer_desc *d) {
    if (d->roster == NULL && (d->rank < 0 || d->rank >= d->size)) return false;
    return d->size >= 1 && d->size <= 1024 && d->devices_max >= d->size && d->devices_max <= 1024 &&
           d->sessions_max >= 1 && d->sessions_max <= (int32_t)DLSI_SES_MAX && d->ports_max >= 1 &&
           d->ports_max <= 4096 && d->ops_max >= 1 && d->ops_max <= 65535 && d->window >= 4 &&
           d->window <= 65536 && (d->window & (d->window - 1)) == 0 && d->control_bytes >= 128 &&
           d->control_bytes <= 65535 && d->relay_bytes >= 0 && d->relay_bytes <= 0x1000000;
}
DLSI_FN dls_peer *dlsi_peer_layout(dlsi_layout *l, const dls_peer_desc *d) {
    const size_t devices = (size_t)d->devices_max, sessions = (size_t)d->sessions_max;
    const int32_t hands = dlsi_min_i32(d->sessions_max, DLSI_HOSTED ? 64 : 1);
    const int32_t wants = DLSI_HOSTED ? 8 : 2; /* of each device */
    dls_peer *p = (dls_peer *)dlsi_layout_take(l, sizeof *p);
    dlsi_member *member = (dlsi_member *)dlsi_layout_take(l, devices * sizeof *member);
    dlsi_ses *ses = (dlsi_ses *)dlsi_layout_take(l, sessions * sizeof *ses);
    dlsi_port *port = (dlsi_port *)dlsi_layout_take(l, (size_t)d->ports_max * sizeof *port);
    dlsi_op *op = (dlsi_op *)dlsi_layout_take(l, (size_t)d->ops_max * sizeof *op);
    dlsi_want *want = (dlsi_want *)dlsi_layout_take(l, devices * (size_t)wants * sizeof *want);
    dlsi_hand *hand = (dlsi_hand *)dlsi_layout_take(l, (size_t)hands * sizeof *hand);
    dls_device *incoming = (dls_device *)dlsi_layout_take(l, devices * sizeof *incoming);
    int32_t *view_rank = (int32_t *)dlsi_layout_take(l, devices * sizeof *view_rank);
    void *seen = dlsi_layout_take(l, devices * 8), *accepted = dlsi_layout_take(l, devices * 8);
    unsigned char *state =
        (unsigned char *)dlsi_layout_take(l, d->store != NULL ? DLS_STATE_BYTES(devices) : 0);
    unsigned char *relay = (unsigned char *)dlsi_layout_take(l, (size_t)d->relay_bytes);
    unsigned char *control =
        (unsigned char *)dlsi_layout_take(l, sessions * (size_t)d->control_bytes);
    dls_sent *ring =
        (dls_sent *)dlsi_layout_take(l, dlsi_mul(sessions, (size_t)d->window * sizeof *ring));
    int32_t i;
    if (p == NULL || l->base == NULL) return NULL;
    memset(p, 0, sizeof *p);
    p->member = member;
    p->ses = ses;
    p->port = port;
    p->op = op;
    p->want = want;
    p->hand = hand;
    p->incoming = incoming;
    p->view_rank = view_rank;
    memcpy(&p->view.member, &seen, sizeof seen);
    memcpy(&p->accepted.member, &accepted, sizeof accepted);
    p->state = state;
    p->relay = relay;
    p->hands = hands;
    p->wants = wants;
    memset(member, 0, devices * sizeof *member);
    memset(ses, 0, sessions * sizeof *ses);
    memset(port, 0, (size_t)d->ports_max * sizeof *port);
    memset(op, 0, (size_t)d->ops_max * sizeof *op);
    for (i = 0; i < wants * d->devices_max; i++) want[i].rank = -1;
    for (i = 0; i < hands; i++) hand[i].ses = -1;
    for (i = 0; i < d->sessions_max; i++) {
        ses[i].control = control + (size_t)i * (size_t)d->control_bytes;
        ses[i].ring = ring + (size_t)i * (size_t)d->window;
        ses[i].index = (uint32_t)i;
        ses[i].rank = -1;
    }
    return p;
}
DLS_API size_t dls_peer_size(const dls_peer_desc *desc) {
    const dls_peer_desc d = dlsi_peer_desc(desc);
    dlsi_layout l = dlsi_layout_at(NULL);
    if (!dlsi_peer_good(&d)) return 0;
    (void)dlsi_peer_layout(&l, &d);
    return dlsi_layout_total(&l);
}
DLSI_FN void dlsi_member_clear(dlsi_member *m) {
    memset(m, 0, sizeof *m);
    m->ses = m->route = m->call_port = -1;
}
DLSI_FN dls_status dlsi_peer_devices(dls_peer *p) {
    const dls_roster *r = p->desc.roster;
    const char *name = p->desc.name != NULL ? p->desc.name : "peer";
    int32_t i;
    p->me = p->desc.roster == NULL ? p->desc.rank : -1;
    p->count = p->desc.size;
    p->group = r != NULL ? r->group : p->desc.group;
    p->epoch = r != NULL ? r->epoch : 0;
    for (i = 0; i < p->count; i++) {
        dlsi_member_clear(&p->member[i]);
        if (r != NULL) {
            p->member[i].device = r->device[i];
            if (r->device[i].id == p->desc.id) p->me = i;
        } else {
            p->member[i].device.id = (uint32_t)i;
            p->member[i].device.role = (uint8_t)~DLS_ROLE_COORD;
        }
    }
    if (p->me < 0) return DLS_E_NOT_FOUND;
    if ((p->member[p->me].device.flags & DLS_DEVICE_REVOKED) != 0) return DLS_E_REFUSED;
    p->my_role = p->member[p->me].device.role;
    for (i = 0; r == NULL && i < 15 && name[i] >= ' ' && name[i] <= '~'; i++)
        p->member[p->me].device.name[i] = name[i];
    return DLS_OK;
}
DLSI_FN bool dlsi_peer_small(const dls_peer *p, int32_t rank) {
    return (p->member[rank].device.flags & DLS_DEVICE_SMALL) != 0;
}
DLSI_FN dls_status dlsi_peer_keys(dls_peer *p) {
    const dls_peer_desc *d = &p->desc;
    unsigned char random[32];
    dls_status st;
    p->cookie.since = 0;
    if (d->psk == NULL) return DLS_OK;
    memcpy(p->psk, d->psk, 32);
    if (d->root != NULL) memcpy(p->root, d->root, 32);
    if (d->secret != NULL) {
        memcpy(p->secret, d->secret, 32);
        dls_x25519_public(p->public_key, p->secret);
    } else if (!dlsi_peer_small(p, p->me)) {
        return DLS_E_ARG;
    }
    if (!dlsi_peer_small(p, p->me) && p->desc.roster != NULL &&
        !dls_equal(p->public_key, p->member[p->me].device.public_key, 32))
        return DLS_E_MISMATCH; /* the roster has another key for me */
    st = dls_random(random, sizeof random);
    if (st == DLS_OK) dls_cookie_init(&p->cookie, random, 0);
    dls_wipe(random, sizeof random);
    return st;
}
DLS_API dls_status dls_peer_init(dls_peer **peer, const dls_peer_desc *desc, void *mem,
                                 size_t bytes) {
    const dls_peer_desc d = dlsi_peer_desc(desc);
    dlsi_layout l = dlsi_layout_at(mem);
    dls_peer *p;
    dls_status st;
    *peer = NULL;
    if (!dlsi_peer_good(&d)) return DLS_E_ARG;
    if (mem == NULL || bytes < dls_peer_size(desc)) return DLS_E_MEMORY;
    p = dlsi_peer_layout(&l, &d);
    p->desc = d;
    p->reply.port = p->roster_op = -1;
    p->voted = p->leader = p->view.coordinator = p->accepted.coordinator = DLSI_NOBODY;
    st = dlsi_peer_devices(p);
    if (st == DLS_OK) st = dlsi_peer_keys(p);
    if (st == DLS_OK) st = dlsi_views_open(p);
    if (st != DLS_OK) return st;
    *peer = p;
    return DLS_OK;
}
DLS_API void dls_peer_close(dls_peer *peer) {
    int32_t i;
    for (i = 0; i < peer->desc.sessions_max; i++)
        dls_wipe(&peer->ses[i].record, sizeof peer->ses[i].record);
    for (i = 0; i < peer->hands; i++) dls_wipe(&peer->hand[i], sizeof peer->hand[i]);
    dls_wipe(peer->secret, sizeof peer->secret);
    dls_wipe(peer->psk, sizeof peer->psk);
    dls_wipe(&peer->cookie, sizeof peer->cookie);
}
DLSI_FN uint64_t dlsi_later(uint64_t time, uint64_t us) {
    return us > UINT64_MAX - time ? UINT64_MAX : time + us;
}
/* 3/4 to 5/4 of us, unlike on unlike devices. */
DLSI_FN uint64_t dlsi_peer_jitter(dls_peer *p, uint64_t us) {
    const uint64_t seed = (uint64_t)p->desc.boot << 32 | p->member[p->me].device.id;
    return us - us / 4 + us / 2 * (dls_rand_at(seed, p->serial++) >> 16) / 65536;
}
DLS_API int32_t dls_peer_rank_of(const dls_peer *peer, uint32_t id) {
    int32_t i;
    for (i = 0; i < peer->count; i++)
        if (peer->member[i].device.id == id) return i;
    return -1;
}
DLS_API uint32_t dls_peer_id(const dls_peer *peer, int32_t rank) {
    return rank >= 0 && rank < peer->count ? peer->member[rank].device.id : 0;
}

/* ---- Control messages out ---- */

/* Queues one; false: the queue is full. */
DLSI_FN bool dlsi_ses_say(dls_peer *p, dlsi_ses *s, dls_control_type type, const void *payload,
                          size_t bytes) {
    unsigned char *to = s->control + s->control_used;
    if (s->answer > 0 || s->control_used + 4 + bytes > (size_t)p->desc.control_bytes) return false;
    to[0] = (unsigned char)type;
    to[1] = 0;
    dlsi_store16(to + 2, (uint32_t)bytes);
    if (bytes > 0) memcpy(to + 4, payload, bytes);
    s->control_used = (uint16_t)(s->control_used + 4 + bytes);
    s->control_count++;
    return true;
}
/* Bytes of the first n messages of the queue. */
DLSI_FN size_t dlsi_ses_control_at(const dlsi_ses *s, uint32_t n) {
    size_t at = 0;
    for (; n > 0; n--) at += 4 + dlsi_load16(s->control + at + 2);
    return at;
}
/* Messages before number `end` have arrived. */
DLSI_FN void dlsi_ses_control_gone(dlsi_ses *s, uint32_t end) {
    const uint16_t n = (uint16_t)(end - s->control_first);
    size_t at;
    if (n == 0 || n > s->control_sent) return;
    at = dlsi_ses_control_at(s, n);
    s->control_used = (uint16_t)(s->control_used - at);
    memmove(s->control, s->control + at, s->control_used);
    s->control_first = (uint16_t)(s->control_first + n);
    s->control_count = (uint16_t)(s->control_count - n);
    s->control_sent = (uint16_t)(s->control_sent - n);
}
DLSI_FN void dlsi_ses_say_hello(dls_peer *p, dlsi_ses *s) {
    unsigned char payload[DLS_HELLO_BYTES];
    dls_hello h;
    DLSI_ZERO(h);
    h.major = DLS_VERSION_MAJOR;
    h.minor = DLS_VERSION_MINOR;
    h.size = s->pattern == 0 && p->desc.roster == NULL ? (uint32_t)p->count : 0;
    h.wants = (uint32_t)p->wants;
    h.real_bytes = (uint8_t)sizeof(dls_real);
    h.flags = p->desc.gateway ? 1 : 0;
    memcpy(h.name, p->member[p->me].device.name, 16);
    dls_hello_write(&h, payload);
    (void)dlsi_ses_say(p, s, DLS_CONTROL_HELLO, payload, sizeof payload);
}

/* ---- Ops: matching, and what ends them ---- */

DLSI_FN void dlsi_peer_event_at(dls_peer *p, int32_t rank, dls_peer_event_type type) {
    p->member[rank].events |= (uint8_t)(1u << (type - 1));
    p->member[rank].stamp[type - 1] = p->stamp++;
}
DLSI_FN dlsi_ses *dlsi_peer_ses(dls_peer *p, int32_t rank) {
    return rank >= 0 && rank < p->count && p->member[rank].ses >= 0 ? &p->ses[p->member[rank].ses]
                                                                    : NULL;
}
DLSI_FN void dlsi_op_refuse(dls_peer *p, int32_t rank, uint32_t want, dls_status why) {
    dlsi_ses *s = dlsi_peer_ses(p, rank);
    unsigned char payload[5];
    dlsi_store32(payload, want);
    payload[4] = (unsigned char)why;
    if (s != NULL) (void)dlsi_ses_say(p, s, DLS_CONTROL_REFUSE, payload, sizeof payload);
}
/* The oldest op of a rank and tag that is not matched yet, -1: none. */
DLSI_FN int32_t dlsi_op_oldest(const dls_peer *p, int32_t kind, int32_t rank, uint32_t tag,
                               bool any_tag) {
    int32_t i, best = -1;
    for (i = 0; i < p->desc.ops_max; i++) {
        const dlsi_op *o = &p->op[i];
        if (o->kind != kind || o->rank != rank || o->status >= 0 || o->matched ||
            (!any_tag && o->tag != tag))
            continue;
        if (best < 0 || (int32_t)(o->order - p->op[best].order) < 0) best = i;
    }
    return best;
}
/* Brings waiting wants and sends of a rank and tag together. */
DLSI_FN void dlsi_op_match(dls_peer *p, int32_t rank, uint32_t tag) {
    for (;;) {
        const int32_t send = dlsi_op_oldest(p, DLSI_OP_SEND, rank, tag, false);
        dlsi_want *w = NULL;
        int32_t i;
        for (i = 0; i < p->wants * p->desc.devices_max; i++)
            if (p->want[i].rank == rank && p->want[i].tag == tag &&
                (w == NULL || (int32_t)(p->want[i].order - w->order) < 0))
                w = &p->want[i];
        if (send < 0 || w == NULL) return;
        w->rank = -1;
        if (w->bytes != p->op[send].bytes || w->from > w->bytes) {
            p->op[send].status = (int32_t)DLS_E_MISMATCH;
            dlsi_op_refuse(p, rank, w->id, DLS_E_MISMATCH);
            continue;
        }
        p->op[send].matched = true;
        p->op[send].want = w->id;
        p->op[send].next = p->op[send].done = w->from;
    }
}
/* Sends WANTs for receives of a rank, as many as the peer keeps. */
DLSI_FN void dlsi_op_ask(dls_peer *p, int32_t rank) {
    dlsi_ses *s = dlsi_peer_ses(p, rank);
    unsigned char payload[16];
    int32_t i;
    if (s == NULL || s->state != DLSI_SES_UP || !s->hello) return;
    while (s->wants < s->wants_max && (i = dlsi_op_oldest(p, DLSI_OP_RECV, rank, 0, true)) >= 0) {
        dlsi_op *o = &p->op[i];
        dlsi_store32(payload, o->want);
        dlsi_store32(payload + 4, o->tag);
        dlsi_store32(payload + 8, o->bytes);
        dlsi_store32(payload + 12, o->done);
        if (!dlsi_ses_say(p, s, DLS_CONTROL_WANT, payload, sizeof payload)) return;
        o->matched = true;
        s->wants++;
    }
}
/* A receive has begun, or never will: the peer keeps its want no longer. */
DLSI_FN void dlsi_op_begun(dls_peer *p, dlsi_op *o) {
    dlsi_ses *s = dlsi_peer_ses(p, o->rank);
    if (o->begun) return;
    o->begun = true;
    if (o->kind != DLSI_OP_RECV || !o->matched || s == NULL) return;
    if (s->wants > 0) s->wants--;
    dlsi_op_ask(p, o->rank);
}
/* The receive that a chunk names, NULL: it is over. */
DLSI_FN dlsi_op *dlsi_op_wanted(dls_peer *p, int32_t rank, uint32_t want) {
    dlsi_op *o = &p->op[(want & 0xFFFFu) % (uint32_t)p->desc.ops_max];
    return o->kind == DLSI_OP_RECV && o->status < 0 && o->rank == rank && o->want == want ? o
                                                                                          : NULL;
}
DLSI_FN dlsi_op *dlsi_op_sending(dls_peer *p, int32_t rank, uint32_t want) {
    int32_t i;
    for (i = 0; i < p->desc.ops_max; i++) {
        dlsi_op *o = &p->op[i];
        if (o->kind == DLSI_OP_SEND && o->status < 0 && o->rank == rank && o->matched &&
            o->want == want)
            return o;
    }
    return NULL;
}
/* Notes that bytes [at, end) are here; false: too many gaps, the piece must come again. */
DLSI_FN bool dlsi_op_place(dlsi_op *o, uint32_t at, uint32_t end) {
    uint32_t i = 0, k;
    if (at > o->done) {
        while (i < o->spans && o->span[i].end < at) i++;
        for (k = i; k < o->spans && o->span[k].at <= end; k++) {
            if (o->span[k].at < at) at = o->span[k].at;
            if (o->span[k].end > end) end = o->span[k].end;
        }
        if (k == i && o->spans == DLSI_SPANS) return false;
        memmove(&o->span[i + 1], &o->span[k], (o->spans - k) * sizeof o->span[0]);
        o->spans = (uint8_t)(o->spans + 1 - (k - i));
        o->span[i].at = at;
        o->span[i].end = end;
        return true;
    }
    if (end > o->done) o->done = end;
    while (o->spans > 0 && o->span[0].at <= o->done) {
        if (o->span[0].end > o->done) o->done = o->span[0].end;
        o->spans--;
        memmove(&o->span[0], &o->span[1], o->spans * sizeof o->span[0]);
    }
    return true;
}
DLSI_FN void dlsi_op_received(dls_peer *p, dlsi_op *o) {
    dlsi_op_begun(p, o);
    if (o->done == o->bytes) o->status = (int32_t)DLS_OK;
}
/* Bytes of a send have arrived. */
DLSI_FN void dlsi_op_sent(dlsi_op *o, uint32_t bytes) {
    o->done += bytes;
    if (o->done == o->bytes && o->next == o->bytes) o->status = (int32_t)DLS_OK;
}
DLSI_FN void dlsi_peer_fail_ops(dls_peer *p, int32_t rank) {
    int32_t i;
    for (i = 0; i < p->desc.ops_max; i++)
        if (p->op[i].kind != DLSI_OP_FREE && p->op[i].rank == rank && p->op[i].status < 0)
            p->op[i].status = (int32_t)DLS_E_PEER;
    for (i = 0; i < p->wants * p->desc.devices_max; i++)
        if (p->want[i].rank == rank) p->want[i].rank = -1;
}

/* ---- Sessions ---- */

DLSI_FN int32_t dlsi_ses_find(const dls_peer *p, int32_t state, int32_t rank) {
    int32_t i;
    for (i = 0; i < p->desc.sessions_max; i++)
        if (p->ses[i].state == state && p->ses[i].rank == rank) return i;
    return -1;
}
DLSI_FN void dlsi_ses_drop_hand(dls_peer *p, dlsi_ses *s) {
    if (s->hand < 0) return;
    dls_wipe(&p->hand[s->hand].noise, sizeof p->hand[s->hand].noise);
    p->hand[s->hand].ses = -1;
    s->hand = -1;
}
/* A fresh one, -1: all are taken. Its index was never used shortly before. */
DLSI_FN int32_t dlsi_ses_make(dls_peer *p, int32_t state, int32_t rank, int32_t port, int32_t via,
                              uint64_t now) {
    const int32_t i = dlsi_ses_find(p, DLSI_SES_FREE, -1);
    unsigned char *control;
    dls_sent *ring;
    uint32_t index;
    dlsi_ses *s;
    if (i < 0) return -1;
    s = &p->ses[i];
    control = s->control;
    ring = s->ring;
    index = s->index;
    memset(s, 0, sizeof *s);
    s->control = control;
    s->ring = ring;
    s->index = (index + DLSI_SES_MAX) & 0xFFFFu;
    s->state = (uint8_t)state;
    s->rank = rank;
    s->port = port;
    s->via = via;
    s->hand = -1;
    s->heard = s->spoke = s->since = s->again = now;
    s->lossy = via >= 0 || p->port[port].desc.kind != DLS_PORT_STREAM;
    if (via < 0 && p->port[port].desc.kind != DLS_PORT_PACKET) p->port[port].ses = i;
    return i;
}
DLSI_FN void dlsi_ses_end(dls_peer *p, int32_t i, dls_status why) {
    dlsi_ses *s = &p->ses[i];
    const int32_t rank = s->rank, state = s->state;
    int32_t k;
    if (state == DLSI_SES_FREE) return;
    s->state = DLSI_SES_FREE;
    s->rank = -1;
    dls_wipe(&s->record, sizeof s->record);
    dlsi_ses_drop_hand(p, s);
    if (s->via < 0 && p->port[s->port].ses == i) {
        p->port[s->port].ses = -1;
        p->port[s->port].done = p->port[s->port].desc.kind == DLS_PORT_STREAM;
    }
    for (k = 0; k < p->desc.sessions_max; k++)
        if (p->ses[k].state != DLSI_SES_FREE && p->ses[k].via == i) dlsi_ses_end(p, k, why);
    for (k = 0; k < p->count; k++)
        if (p->member[k].route == i) p->member[k].route = -1;
    p->routes_due = true;
    if (rank < 0) return;
    if (why != DLS_OK) p->member[rank].status = (uint8_t)why;
    if (p->member[rank].ses != i) return;
    p->member[rank].ses = -1;
    p->member[rank].status = (uint8_t)why;
    if (s->hello) dlsi_peer_event_at(p, rank, why == DLS_OK ? DLS_PEER_LEFT : DLS_PEER_LOST);
    dlsi_peer_fail_ops(p, rank);
    dlsi_views_changed(p);
}
/* Longest packet of a session. */
DLSI_FN size_t dlsi_ses_mtu(const dls_peer *p, const dlsi_ses *s) {
    const size_t own = (size_t)p->port[s->port].desc.mtu;
    const dlsi_member *m = &p->member[s->rank];
    if (s->via < 0) return own;
    return dlsi_min_size(own - DLSI_RELAY_BYTES,
                         m->route == s->via ? m->route_mtu : DLSI_RELAY_LEAST);
}
/* Keys are agreed: the session replaces an older one. */
DLSI_FN void dlsi_ses_up(dls_peer *p, int32_t i, uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    const int32_t old = p->member[s->rank].ses;
    if (old >= 0 && old != i) dlsi_ses_end(p, old, DLS_E_PEER);
    dlsi_ses_drop_hand(p, s);
    s->state = DLSI_SES_UP;
    s->answer = 0;
    s->control_used = 0;
    s->heard = now;
    s->spoke = now;
    p->member[s->rank].ses = i;
    p->member[s->rank].calls = 0;
    p->member[s->rank].status = 0;
    if (s->lossy)
        dls_flow_init(&s->flow, s->ring, p->desc.window, (uint32_t)dlsi_ses_mtu(p, s), now);
    dlsi_ses_say_hello(p, s);
}

/* ---- Handshakes ---- */

DLSI_FN uint8_t dlsi_peer_pattern(const dls_peer *p, int32_t rank) {
    if (p->desc.psk == NULL) return 0;
    return dlsi_peer_small(p, rank) || dlsi_peer_small(p, p->me) ? DLS_NOISE_NNPSK0
                                                                 : DLS_NOISE_KKPSK0;
}
/* The key shared with a device, and the one the macs of packets to `rank` use. */
DLSI_FN void dlsi_peer_psk(const dls_peer *p, int32_t rank, unsigned char *psk) {
    memcpy(psk, p->psk, 32);
    if (!dlsi_peer_small(p, p->me) && dlsi_peer_small(p, rank))
        dls_device_psk(psk, p->psk, p->group, p->member[rank].device.id);
}
DLSI_FN void dlsi_peer_mac(const dls_peer *p, int32_t with, int32_t to, const unsigned char *packet,
                           unsigned char *mac) {
    unsigned char psk[32];
    const bool small = dlsi_peer_pattern(p, with) == DLS_NOISE_NNPSK0;
    dlsi_peer_psk(p, with, psk);
    dls_mac1(mac, psk,
             small         ? NULL
             : to == p->me ? p->public_key
                           : p->member[to].device.public_key,
             packet, DLS_INIT_BYTES - 32);
    dls_wipe(psk, sizeof psk);
}
DLSI_FN dls_status dlsi_peer_noise(dls_peer *p, dls_noise *noise, int32_t rank, bool initiator) {
    unsigned char prologue[16], psk[32], e[32];
    const int32_t caller = initiator ? p->me : rank, called = initiator ? rank : p->me;
    dls_noise_desc d;
    dls_status st = dls_noise_ephemeral(e, p->desc.secret != NULL ? p->secret : p->psk,
                                        (uint64_t)p->desc.boot << 32 | p->serial++);
    DLSI_ZERO(d);
    prologue[0] = prologue[3] = 0;
    prologue[1] = DLS_WIRE_VERSION;
    prologue[2] = dlsi_peer_pattern(p, rank);
    dlsi_store32(prologue + 4, p->group);
    dlsi_store32(prologue + 8, p->member[caller].device.id);
    dlsi_store32(prologue + 12, p->member[called].device.id);
    dlsi_peer_psk(p, rank, psk);
    d.pattern = (dls_noise_pattern)prologue[2];
    d.initiator = initiator;
    d.prologue = prologue;
    d.prologue_bytes = sizeof prologue;
    d.psk = psk;
    d.ephemeral = e;
    if (d.pattern == DLS_NOISE_KKPSK0) {
        d.secret = p->secret;
        d.public_key = p->public_key;
        d.remote = p->member[rank].device.public_key;
    }
    if (st == DLS_OK) st = dls_noise_init(noise, &d);
    dls_wipe(psk, sizeof psk);
    dls_wipe(e, sizeof e);
    return st;
}
/* An INIT or RESP; noise NULL: plain. to: DLS_INIT_BYTES. Returns its bytes, 0: it failed. */
DLSI_FN size_t dlsi_init_write(dls_peer *p, const dlsi_ses *s, dls_noise *noise, uint32_t to_whom,
                               unsigned char *to) {
    unsigned char payload[12];
    dls_init_head h;
    size_t n = 0;
    h.type = s->state == DLSI_SES_CALLING ? DLS_PACKET_INIT : DLS_PACKET_RESP;
    h.pattern = s->pattern;
    h.index = s->index;
    h.id = p->member[p->me].device.id;
    h.group_or_index = to_whom;
    dls_init_head_write(&h, to);
    dlsi_store32(payload, ++p->sequence);
    dlsi_store32(payload + 4, p->desc.boot);
    dlsi_store32(payload + 8, p->epoch);
    if (noise == NULL) {
        memcpy(to + 16, payload, sizeof payload);
        return DLS_INIT_PLAIN;
    }
    if (dls_noise_write(noise, payload, sizeof payload, to + 16, 60, &n) != DLS_OK || n != 60)
        return 0;
    dlsi_peer_mac(p, s->rank, s->rank, to, to + 76);
    memset(to + 92, 0, 16);
    if (s->cookie) dls_mac2(to + 92, s->cookie16, to, 92);
    return DLS_INIT_BYTES;
}
/* The INIT of a session that calls, when it is time for one. */
DLSI_FN size_t dlsi_ses_call(dls_peer *p, int32_t i, unsigned char *to, uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    size_t n = 0;
    int32_t k;
    if (now < s->again) return 0;
    if (s->calls >= DLSI_CALLS_MAX) {
        p->member[s->rank].again = now + dlsi_peer_jitter(p, p->desc.heartbeat_us);
        dlsi_ses_end(p, i, DLS_E_TIMEOUT);
        return 0;
    }
    s->pattern = dlsi_peer_pattern(p, s->rank);
    s->again = now + dlsi_peer_jitter(p, p->desc.heartbeat_us / (s->calls < 2 ? 2 : 1));
    s->calls++;
    if (s->pattern == 0) return dlsi_init_write(p, s, NULL, p->group, to);
    for (k = 0; s->hand < 0 && k < p->hands; k++)
        if (p->hand[k].ses < 0) s->hand = k;
    if (s->hand < 0) return 0; /* others are calling: later */
    p->hand[s->hand].ses = i;
    if (dlsi_peer_noise(p, &p->hand[s->hand].noise, s->rank, true) == DLS_OK)
        n = dlsi_init_write(p, s, &p->hand[s->hand].noise, p->group, to);
    if (n > 0) memcpy(p->hand[s->hand].mac1, to + 76, 16);
    return n;
}
/* Under load a caller must show that it receives what is sent to its address. */
DLSI_FN bool dlsi_init_cookie(dls_peer *p, int32_t rank, const unsigned char *packet, int32_t port,
                              const dls_addr *from, uint64_t now) {
    unsigned char cookie[16], mac[16], psk[32], nonce[12];
    if (now - p->load_since > 1000000u || now < p->load_since) {
        p->load_since = now;
        p->load = 0;
    }
    if (++p->load <= 16 + 2 * p->count || from == NULL) return true;
    dls_cookie_make(&p->cookie, from->bytes, from->size, now, cookie);
    dls_mac2(mac, cookie, packet, 92);
    if (dls_equal(mac, packet + 92, 16)) return true;
    if (p->reply.port >= 0) return false;
    memset(p->reply.bytes, 0, sizeof p->reply.bytes);
    if (dls_random(nonce, sizeof nonce) != DLS_OK) return false;
    p->reply.bytes[0] = DLS_PACKET_COOKIE;
    dlsi_store32(p->reply.bytes + 4, dlsi_load32(packet + 4));
    dlsi_peer_psk(p, rank, psk);
    dls_cookie_seal(p->reply.bytes + 8, cookie, nonce, packet + 76, psk,
                    dlsi_peer_pattern(p, rank) == DLS_NOISE_NNPSK0 ? NULL : p->public_key);
    p->reply.port = port;
    p->reply.to = *from;
    dls_wipe(psk, sizeof psk);
    return false;
}
/* Whether an INIT is one to answer, before any costly work: DLS_OK and its rank. */
DLSI_FN dls_status dlsi_init_judge(dls_peer *p, const dls_init_head *h, const unsigned char *packet,
                                   int32_t port, int32_t via, int32_t *rank) {
    unsigned char mac[16];
    const dlsi_member *m;
    int32_t calling;
    *rank = dls_peer_rank_of(p, h->id);
    if (h->group_or_index != p->group || p->leaving) return DLS_E_MISMATCH;
    if (*rank < 0 || *rank == p->me) return DLS_E_REFUSED;
    if (p->port[port].desc.kind == DLS_PORT_STREAM && p->port[port].ses >= 0 && via < 0)
        return DLS_E_STATE; /* it carries a session already */
    m = &p->member[*rank];
    if ((m->device.flags & DLS_DEVICE_REVOKED) != 0) return DLS_E_REFUSED;
    if (h->pattern != dlsi_peer_pattern(p, *rank)) return DLS_E_MISMATCH;
    if (h->pattern == 0) {
        if (!p->port[port].desc.plain) return DLS_E_REFUSED;
    } else {
        dlsi_peer_mac(p, *rank, p->me, packet, mac);
        if (!dls_equal(mac, packet + 76, 16)) return DLS_E_AUTH;
    }
    calling = dlsi_ses_find(p, DLSI_SES_CALLING, *rank);
    if (calling >= 0 && p->member[p->me].device.id < h->id && p->ses[calling].calls > 0 &&
        p->ses[calling].calls < DLSI_CALLS_MAX)
        return DLS_E_STATE; /* we call each other: the lower id's call counts */
    return DLS_OK;
}
/* Whether a device's boot count and sequence are newer than any before. */
DLSI_FN bool dlsi_init_fresh(dlsi_member *m, const unsigned char *payload) {
    const uint64_t number = (uint64_t)dlsi_load32(payload + 4) << 32 | dlsi_load32(payload);
    if (number <= m->newest) return false;
    m->newest = number;
    return true;
}
DLSI_FN void dlsi_ses_keys(dlsi_ses *s, dls_noise *noise) {
    unsigned char mine[32], theirs[32];
    memset(mine, 0, sizeof mine);
    memset(theirs, 0, sizeof theirs);
    if (noise != NULL) (void)dls_noise_split(noise, mine, theirs);
    dls_session_init(&s->record, mine, theirs);
    dls_wipe(mine, sizeof mine);
    dls_wipe(theirs, sizeof theirs);
}
DLSI_FN dls_status dlsi_init_take(dls_peer *p, const unsigned char *packet, size_t n, int32_t port,
                                  int32_t via, const dls_addr *from, uint64_t now) {
    unsigned char payload[12];
    dls_init_head h;
    dls_noise noise;
    dlsi_ses *s;
    size_t got = 0;
    int32_t rank, i;
    dls_status st = dls_init_head_read(&h, packet, n);
    if (st == DLS_OK) st = dlsi_init_judge(p, &h, packet, port, via, &rank);
    if (st != DLS_OK) return st;
    memcpy(payload, packet + 16, sizeof payload);
    if (h.pattern != 0) {
        if (!dlsi_init_cookie(p, rank, packet, port, from, now)) return DLS_OK;
        st = dlsi_peer_noise(p, &noise, rank, false);
        if (st == DLS_OK)
            st = dls_noise_read(&noise, packet + 16, 60, payload, sizeof payload, &got);
        if (st == DLS_OK && got != sizeof payload) st = DLS_E_FORMAT;
    }
    if (st == DLS_OK && !dlsi_init_fresh(&p->member[rank], payload)) st = DLS_E_STATE;
    if (st != DLS_OK) return st;
    while ((i = dlsi_ses_find(p, DLSI_SES_CALLING, rank)) >= 0 ||
           (i = dlsi_ses_find(p, DLSI_SES_HALF, rank)) >= 0)
        dlsi_ses_end(p, i, DLS_E_PEER);
    i = dlsi_ses_make(p, DLSI_SES_HALF, rank, port, via, now);
    if (i < 0) return DLS_E_LIMIT;
    s = &p->ses[i];
    s->pattern = h.pattern;
    s->their_index = h.index;
    s->boot = dlsi_load32(payload + 4);
    s->epoch = dlsi_load32(payload + 8);
    if (from != NULL) s->addr = *from;
    s->answer = (uint8_t)dlsi_init_write(p, s, h.pattern != 0 ? &noise : NULL, h.index, s->control);
    s->clear = h.pattern == 0 && !s->lossy;
    dlsi_ses_keys(s, h.pattern != 0 ? &noise : NULL);
    return s->answer > 0 ? DLS_OK : DLS_E_AUTH;
}
DLSI_FN dlsi_ses *dlsi_ses_at(dls_peer *p, uint32_t index) {
    dlsi_ses *s = &p->ses[(index & 2047u) % (uint32_t)p->desc.sessions_max];
    return s->index == index && s->state != DLSI_SES_FREE ? s : NULL;
}
DLSI_FN dls_status dlsi_resp_take(dls_peer *p, const unsigned char *packet, size_t n,
                                  uint64_t now) {
    unsigned char payload[12], mac[16];
    dls_init_head h;
    dls_status st = dls_init_head_read(&h, packet, n);
    dlsi_ses *s = st == DLS_OK ? dlsi_ses_at(p, h.group_or_index) : NULL;
    size_t got = 0;
    if (st != DLS_OK) return st;
    if (s == NULL || s->state != DLSI_SES_CALLING || s->pattern != h.pattern || s->calls == 0 ||
        p->member[s->rank].device.id != h.id)
        return DLS_E_STATE;
    memcpy(payload, packet + 16, sizeof payload);
    if (h.pattern != 0) {
        if (s->hand < 0) return DLS_E_STATE;
        dlsi_peer_mac(p, s->rank, p->me, packet, mac);
        if (!dls_equal(mac, packet + 76, 16)) return DLS_E_AUTH;
        st =
            dls_noise_read(&p->hand[s->hand].noise, packet + 16, 60, payload, sizeof payload, &got);
        if (st == DLS_OK && got != sizeof payload) st = DLS_E_FORMAT;
        if (st != DLS_OK) return st;
    }
    s->their_index = h.index;
    s->boot = dlsi_load32(payload + 4);
    s->epoch = dlsi_load32(payload + 8);
    (void)dlsi_init_fresh(&p->member[s->rank], payload);
    dlsi_ses_keys(s, h.pattern != 0 ? &p->hand[s->hand].noise : NULL);
    s->clear = h.pattern == 0 && !s->lossy;
    dlsi_ses_up(p, (int32_t)(s - p->ses), now);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_cookie_take(dls_peer *p, const unsigned char *packet, size_t n,
                                    uint64_t now) {
    dlsi_ses *s = n == DLS_COOKIE_BYTES ? dlsi_ses_at(p, dlsi_load32(packet + 4)) : NULL;
    unsigned char psk[32];
    dls_status st;
    if (s == NULL || s->state != DLSI_SES_CALLING || s->hand < 0) return DLS_E_STATE;
    dlsi_peer_psk(p, s->rank, psk);
    st = dls_cookie_open(s->cookie16, packet + 8, p->hand[s->hand].mac1, psk,
                         s->pattern == DLS_NOISE_NNPSK0 ? NULL
                                                        : p->member[s->rank].device.public_key);
    dls_wipe(psk, sizeof psk);
    if (st != DLS_OK) return st;
    s->cookie = true;
    s->again = now;
    return DLS_OK;
}

/* ---- Packets out ---- */

/* The send whose chunk goes next over a session, -1: none. */
DLSI_FN int32_t dlsi_ses_next_op(const dls_peer *p, const dlsi_ses *s) {
    int32_t i, best = -1;
    for (i = 0; i < p->desc.ops_max; i++) {
        const dlsi_op *o = &p->op[i], *b = best >= 0 ? &p->op[best] : NULL;
        if (o->kind != DLSI_OP_SEND || o->status >= 0 || o->rank != s->rank || !o->matched ||
            (o->begun && o->next == o->bytes))
            continue;
        if (b == NULL || o->priority < b->priority ||
            (o->priority == b->priority && (int32_t)(o->order - b->order) < 0))
            best = i;
    }
    return best;
}
/* Control messages not yet on their way, as many as fit. */
DLSI_FN size_t dlsi_ses_put_control(dlsi_ses *s, unsigned char *to, size_t max, uint32_t *ref) {
    const size_t from = dlsi_ses_control_at(s, s->control_sent);
    size_t bytes = 0;
    uint32_t n = 0;
    dls_frame f;
    while (s->control_sent + n < s->control_count) {
        const size_t more = 4 + dlsi_load16(s->control + from + bytes + 2);
        if (5 + bytes + more > max) break;
        bytes += more;
        n++;
    }
    if (n == 0) return 0;
    DLSI_ZERO(f);
    f.kind = DLS_FRAME_CONTROL;
    f.a = (uint32_t)(uint16_t)(s->control_first + s->control_sent);
    f.bytes = bytes;
    dls_frame_write(&f, to);
    memcpy(to + 5, s->control + from, bytes);
    ref[0] = f.a | n << 16;
    s->control_sent = (uint16_t)(s->control_sent + n);
    return 5 + bytes;
}
DLSI_FN size_t dlsi_ses_put_ack(dlsi_ses *s, unsigned char *to, size_t max, uint64_t now) {
    dls_frame f;
    if (max < 16) return 0;
    DLSI_ZERO(f);
    f.kind = DLS_FRAME_ACK;
    f.bytes = dls_flow_ack_write(&s->flow, to + 2, dlsi_min_size(max - 2, 255), now);
    if (f.bytes == 0) return 0;
    dls_frame_write(&f, to);
    return 2 + f.bytes;
}
/* Bytes [at, at + n) of a send as a chunk. */
DLSI_FN size_t dlsi_ses_put_chunk(const dlsi_op *o, uint32_t at, uint32_t n, unsigned char *to) {
    dls_frame f;
    DLSI_ZERO(f);
    f.kind = DLS_FRAME_CHUNK;
    f.a = o->want;
    f.b = at;
    dls_frame_write(&f, to);
    if (n > 0) memcpy(to + 9, o->data + at, n);
    return 9 + (size_t)n;
}
DLSI_FN size_t dlsi_ses_put_lost(dls_peer *p, dlsi_ses *s, unsigned char *to, size_t max,
                                 uint32_t *ref) {
    const uint32_t i = (s->lost[1] & 0xFFFFu) - 1;
    const dlsi_op *o = &p->op[i];
    if (9 + (size_t)s->lost[3] > max) return 0;
    s->has_lost = false;
    if (o->kind != DLSI_OP_SEND || o->status >= 0 || (o->order & 0xFFFFu) != s->lost[1] >> 16)
        return 0; /* it is over */
    memcpy(ref + 1, s->lost + 1, 3 * sizeof *ref);
    return dlsi_ses_put_chunk(o, s->lost[2], s->lost[3], to);
}
DLSI_FN size_t dlsi_ses_put_op(dls_peer *p, dlsi_ses *s, unsigned char *to, size_t max,
                               uint32_t *ref) {
    const int32_t i = max > 9 ? dlsi_ses_next_op(p, s) : -1;
    dlsi_op *o = i >= 0 ? &p->op[i] : NULL;
    uint32_t n, at;
    if (o == NULL) return 0;
    at = o->next;
    n = (uint32_t)dlsi_min_size(o->bytes - at, max - 9);
    ref[1] = (uint32_t)(i + 1) | (o->order & 0xFFFFu) << 16;
    ref[2] = at;
    ref[3] = n;
    o->begun = true;
    o->next += n;
    (void)dlsi_ses_put_chunk(o, at, n, to);
    if (!s->lossy) dlsi_op_sent(o, n);
    return 9 + (size_t)n;
}
/* What lost packets carried goes out again: control from the first lost message on, one chunk at
   a time. */
DLSI_FN void dlsi_ses_lost(dls_peer *p, dlsi_ses *s) {
    uint32_t ref[4];
    while (!s->has_lost && dls_flow_next_lost(&s->flow, ref)) {
        const uint16_t back = (uint16_t)((ref[0] & 0xFFFFu) - s->control_first);
        if (ref[0] >> 16 != 0 && back < s->control_sent) s->control_sent = back;
        s->has_lost = ref[1] != 0;
        memcpy(s->lost, ref, sizeof ref);
    }
    (void)p;
}
/* What ends a packet: bytes of a send or a packet for others, in turn. Plain chunks on a stream
   have packets of their own, see dlsi_stream_chunk. */
DLSI_FN size_t dlsi_ses_put_rest(dls_peer *p, int32_t i, unsigned char *to, size_t max,
                                 uint32_t *ref, uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    size_t n = 0;
    s->turn = !s->turn;
    if (s->turn) n = dlsi_relay_put(p, i, to, max, now);
    if (n == 0 && !s->clear) n = dlsi_ses_put_op(p, s, to, max, ref);
    if (n == 0 && !s->turn) n = dlsi_relay_put(p, i, to, max, now);
    return n;
}
/* Whether a packet would carry more than an ack: then one may ride along. */
DLSI_FN bool dlsi_ses_has_more(const dls_peer *p, int32_t i) {
    const dlsi_ses *s = &p->ses[i];
    return s->ping || s->has_lost || s->control_sent < s->control_count ||
           dlsi_ses_next_op(p, s) >= 0;
}
/* Frames of one packet; *elicits: more than an ack. 0: nothing to say now. */
DLSI_FN size_t dlsi_ses_frames(dls_peer *p, int32_t i, unsigned char *to, size_t max, bool *elicits,
                               uint32_t *ref, uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    size_t n = 0, ack = 0;
    bool room = true, due = false;
    memset(ref, 0, 4 * sizeof *ref);
    if (s->lossy) {
        dlsi_ses_lost(p, s);
        room = dls_flow_room(&s->flow, now) > 0;
        due = dls_flow_ack_due(&s->flow, now);
        if (due || (room && dlsi_ses_has_more(p, i))) ack = dlsi_ses_put_ack(s, to, max, now);
    }
    n = ack;
    if (room) {
        n += dlsi_ses_put_control(s, to + n, max - n, ref);
        if (s->has_lost) n += dlsi_ses_put_lost(p, s, to + n, max - n, ref);
        if (!s->has_lost && ref[1] == 0) n += dlsi_ses_put_rest(p, i, to + n, max - n, ref, now);
        if (n == ack && (s->ping || (s->lossy && dls_flow_probe(&s->flow))))
            to[n++] = DLS_FRAME_PING;
    }
    *elicits = n > ack;
    if (n > ack) s->ping = false;
    return n > ack || due ? n : 0;
}
/* A whole packet of a session, at most max bytes; 0: none now. */
DLSI_FN size_t dlsi_ses_packet(dls_peer *p, int32_t i, unsigned char *to, size_t max,
                               uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    const size_t tag = s->clear ? 0 : DLS_RECORD_TAG;
    dls_data_head h;
    uint64_t number;
    uint32_t ref[4];
    bool elicits;
    size_t n;
    if (s->state == DLSI_SES_CALLING)
        return max >= DLS_INIT_BYTES ? dlsi_ses_call(p, i, to, now) : 0;
    if (s->answer > 0 && s->answer <= max) {
        n = s->answer;
        memcpy(to, s->control, n);
        s->answer = 0;
        return n;
    }
    if (s->state < DLSI_SES_UP || max < DLS_HEAD_BYTES + tag + 16) return 0;
    n = dlsi_ses_frames(p, i, to + DLS_HEAD_BYTES, max - DLS_HEAD_BYTES - tag, &elicits, ref, now);
    if (n == 0) return 0;
    number = s->record.sent;
    h.index = s->their_index;
    h.counter = (uint32_t)(number & 0xFFFFFFFFu);
    dls_data_head_write(&h, to);
    if (!s->clear && dls_session_seal(&s->record, to + DLS_HEAD_BYTES, to + DLS_HEAD_BYTES, n, to,
                                      DLS_HEAD_BYTES, to + DLS_HEAD_BYTES + n) != DLS_OK) {
        dlsi_ses_end(p, i, DLS_E_LIMIT);
        return 0;
    }
    if (s->clear) s->record.sent++;
    n += DLS_HEAD_BYTES + tag;
    if (s->lossy)
        dls_flow_sent(&s->flow, number, (uint32_t)n, elicits, ref, now);
    else if (ref[0] != 0)
        dlsi_ses_control_gone(s, (ref[0] & 0xFFFFu) + (ref[0] >> 16));
    if (elicits) s->spoke = now;
    return n;
}

/* ---- Gateways ---- */

DLSI_FN size_t dlsi_relay_head(unsigned char *to, uint32_t hops, uint32_t from, uint32_t whom) {
    dls_frame f;
    DLSI_ZERO(f);
    f.kind = DLS_FRAME_RELAY;
    f.hops = (uint8_t)hops;
    f.a = from;
    f.b = whom;
    dls_frame_write(&f, to);
    return 10;
}
/* One packet for others behind this session: one that was passed to us, or one of a session whose
   way it is. */
DLSI_FN size_t dlsi_relay_put(dls_peer *p, int32_t i, unsigned char *to, size_t max, uint64_t now) {
    int32_t at, bytes, k;
    if (max <= 10) return 0;
    for (at = 0; at < p->relay_used; at += 4 + bytes) {
        bytes = (int32_t)dlsi_load16(p->relay + at);
        if ((int32_t)dlsi_load16(p->relay + at + 2) != i || (size_t)bytes > max) continue;
        memcpy(to, p->relay + at + 4, (size_t)bytes);
        p->relay_used -= 4 + bytes;
        memmove(p->relay + at, p->relay + at + 4 + bytes, (size_t)(p->relay_used - at));
        return (size_t)bytes;
    }
    for (k = 0; k < p->desc.sessions_max; k++) {
        const dlsi_ses *s = &p->ses[k];
        size_t n;
        if (s->state == DLSI_SES_FREE || s->via != i) continue;
        n = dlsi_ses_packet(p, k, to + 10, dlsi_min_size(max - 10, dlsi_ses_mtu(p, s)), now);
        if (n == 0) continue;
        (void)dlsi_relay_head(to, DLSI_HOPS, p->member[p->me].device.id,
                              p->member[p->ses[k].rank].device.id);
        return 10 + n;
    }
    return 0;
}
/* A RELAY frame came over session i: a packet for me, or to be passed on. Lost when there is no
   room or no way: its sender's loss recovery knows. */
DLSI_FN void dlsi_relay_take(dls_peer *p, int32_t i, const dls_frame *f, unsigned char *body,
                             uint64_t now) {
    const int32_t rank = dls_peer_rank_of(p, f->b);
    const int32_t need = 14 + (int32_t)f->bytes;
    int32_t next;
    if (rank == p->me) {
        (void)dlsi_peer_packet(p, p->ses[i].port, i, NULL, body, f->bytes, now);
        return;
    }
    if (!p->desc.gateway || rank < 0 || f->hops == 0) return;
    next = p->member[rank].ses >= 0 && p->ses[p->member[rank].ses].via < 0 ? p->member[rank].ses
                                                                           : p->member[rank].route;
    if (next < 0 || next == i || p->relay_used + need > p->desc.relay_bytes) return;
    dlsi_store16(p->relay + p->relay_used, (uint32_t)(need - 4));
    dlsi_store16(p->relay + p->relay_used + 2, (uint32_t)next);
    (void)dlsi_relay_head(p->relay + p->relay_used + 4, f->hops - 1u, f->a, f->b);
    memcpy(p->relay + p->relay_used + 14, body, f->bytes);
    p->relay_used += need;
}
/* Tells a neighbour whom I can pass packets on to: not itself, not those it told me of. */
DLSI_FN void dlsi_routes_say(dls_peer *p, int32_t i) {
    unsigned char *to = p->ses[i].control + p->ses[i].control_used + 4;
    const size_t room = (size_t)p->desc.control_bytes - p->ses[i].control_used;
    size_t n = 0;
    int32_t k;
    for (k = 0; k < p->count; k++) {
        const dlsi_member *m = &p->member[k];
        const bool direct = m->ses >= 0 && p->ses[m->ses].via < 0 && p->ses[m->ses].hello;
        const uint32_t mtu =
            direct ? (uint32_t)(p->port[p->ses[m->ses].port].desc.mtu - DLSI_RELAY_BYTES)
            : m->route >= 0 && m->route_mtu > DLSI_RELAY_BYTES
                ? m->route_mtu - (uint32_t)DLSI_RELAY_BYTES
                : 0;
        if (k == p->me || k == p->ses[i].rank || mtu < DLS_INIT_BYTES) continue;
        if (!direct && (m->route == i || m->hops + 1 >= DLSI_HOPS)) continue;
        if (n + 7 + 4 > room || n + 64 > (size_t)p->port[p->ses[i].port].desc.mtu) break;
        dlsi_store32(to + n, m->device.id);
        to[n + 4] = direct ? 1 : (unsigned char)(m->hops + 1);
        dlsi_store16(to + n + 5, dlsi_min_u32(mtu, 65535));
        n += 7;
    }
    if (dls_crc32c(1, to, n) == p->ses[i].routes) return; /* as it knows */
    if (dlsi_ses_say(p, &p->ses[i], DLS_CONTROL_ROUTES, to, n))
        p->ses[i].routes = dls_crc32c(1, to, n);
}
DLSI_FN void dlsi_routes_take(dls_peer *p, int32_t i, const unsigned char *list, size_t n) {
    const uint32_t own = (uint32_t)(p->port[p->ses[i].port].desc.mtu - DLSI_RELAY_BYTES);
    size_t at;
    int32_t k;
    for (k = 0; k < p->count; k++)
        if (p->member[k].route == i) p->member[k].route = -1;
    for (at = 0; at + 7 <= n; at += 7) {
        dlsi_member *m;
        const uint32_t mtu = dlsi_load16(list + at + 5);
        k = dls_peer_rank_of(p, dlsi_load32(list + at));
        if (k < 0 || k == p->me || list[at + 4] == 0 || list[at + 4] >= DLSI_HOPS) continue;
        m = &p->member[k];
        if (m->route >= 0 && m->hops <= list[at + 4]) continue;
        m->route = i;
        m->hops = list[at + 4];
        m->route_mtu = (uint16_t)dlsi_min_u32(mtu, own);
    }
    p->routes_due = true;
}
/* ---- Views ---- */

DLSI_FN bool dlsi_view_room(const dls_peer *p, const unsigned char *payload, size_t bytes) {
    const uint32_t n = dlsi_load16(payload + 2);
    return bytes >= 16 + 8 * (size_t)n && n <= (uint32_t)p->desc.devices_max;
}
DLSI_FN void dlsi_view_read(dlsi_view *v, const unsigned char *payload) {
    uint32_t i;
    v->count = dlsi_load16(payload + 2);
    v->term = dlsi_load32(payload + 4);
    v->number = dlsi_load32(payload + 8);
    v->coordinator = dlsi_load32(payload + 12);
    for (i = 0; i < v->count; i++) {
        v->member[i].id = dlsi_load32(payload + 16 + 8 * i);
        v->member[i].boot = dlsi_load32(payload + 20 + 8 * i);
    }
}
DLSI_FN void dlsi_view_copy(dlsi_view *to, const dlsi_view *from) {
    to->number = from->number;
    to->term = from->term;
    to->coordinator = from->coordinator;
    to->count = from->count;
    memcpy(to->member, from->member, from->count * sizeof *to->member);
}
DLSI_FN void dlsi_view_adopt(dls_peer *p, const unsigned char *payload) {
    dlsi_view_read(&p->view, payload);
    p->events |= 1u << 0;
}
DLS_API void dls_peer_view(const dls_peer *peer, dls_view *view) {
    const dlsi_view *v = &peer->view;
    uint32_t i;
    memset(view, 0, sizeof *view);
    view->number = v->number;
    view->term = v->term;
    view->coordinator = dls_peer_rank_of(peer, v->coordinator);
    view->count = (int32_t)v->count;
    view->rank = peer->view_rank;
    view->mine = -1;
    for (i = 0; i < v->count; i++) {
        peer->view_rank[i] = dls_peer_rank_of(peer, v->member[i].id);
        if (peer->view_rank[i] == peer->me && v->member[i].boot == peer->desc.boot)
            view->mine = (int32_t)i;
    }
}

DLSI_FN void dlsi_again_say(dls_peer *p) {
    const int32_t rank = dls_peer_rank_of(p, p->view.coordinator);
    dlsi_ses *s = dlsi_peer_ses(p, rank);
    unsigned char to[4];
    dlsi_store32(to, p->again);
    if (s != NULL && s->hello && p->again == p->view.number && p->again > 0)
        (void)dlsi_ses_say(p, s, DLS_CONTROL_AGAIN, to, sizeof to);
}
DLS_API void dls_peer_view_again(dls_peer *peer) {
    if (peer->again == peer->view.number) return;
    peer->again = peer->view.number;
    dlsi_again_say(peer);
}

#if DLS_ENABLE_COORD
/* Elections and decisions among devices with DLS_ROLE_COORD. What a voter has promised or accepted
   is stored before anybody hears of it. */
enum { DLSI_VOTE_ASK = 1, DLSI_VOTE_YES, DLSI_VOTE_NO };
enum { DLSI_VIEW_PROPOSED = 1, DLSI_VIEW_ACCEPTED, DLSI_VIEW_DECIDED };

DLSI_FN bool dlsi_is_coord(const dls_peer *p, int32_t rank) {
    const dls_device *d = &p->member[rank].device;
    return (d->role & DLS_ROLE_COORD) != 0 && (d->flags & DLS_DEVICE_REVOKED) == 0;
}
DLSI_FN int32_t dlsi_majority(const dls_peer *p) {
    int32_t i, n = 0;
    for (i = 0; i < p->count; i++) n += dlsi_is_coord(p, i) ? 1 : 0;
    return n / 2 + 1;
}
DLSI_FN bool dlsi_member_ready(const dls_peer *p, int32_t rank) {
    const int32_t s = p->member[rank].ses;
    return rank == p->me || (s >= 0 && p->ses[s].hello && p->ses[s].state == DLSI_SES_UP);
}
/* Coordinators I can talk with, myself included. */
DLSI_FN int32_t dlsi_coords_up(const dls_peer *p) {
    int32_t i, n = 0;
    for (i = 0; i < p->count; i++) n += dlsi_is_coord(p, i) && dlsi_member_ready(p, i) ? 1 : 0;
    return n;
}
DLSI_FN int32_t dlsi_votes(const dls_peer *p) {
    int32_t i, n = 0;
    for (i = 0; i < p->count; i++) n += dlsi_is_coord(p, i) && p->member[i].vote ? 1 : 0;
    return n;
}
DLSI_FN void dlsi_votes_clear(dls_peer *p) {
    int32_t i;
    for (i = 0; i < p->count; i++) p->member[i].vote = i == p->me;
}
DLSI_FN bool dlsi_views_store(dls_peer *p) {
    const dlsi_view *v = &p->accepted;
    uint32_t i;
    const uint32_t word[6] = {p->term, p->voted, v->term, v->number, v->coordinator, v->count};
    for (i = 0; i < 6; i++) dlsi_store32(p->state + 4 + 4 * i, word[i]);
    for (i = 0; i < v->count; i++) {
        dlsi_store32(p->state + 28 + 8 * i, v->member[i].id);
        dlsi_store32(p->state + 32 + 8 * i, v->member[i].boot);
    }
    dlsi_store32(p->state, dls_crc32c(0, p->state + 4, 24 + 8 * v->count));
    if (p->desc.store(p->desc.store_user, p->state, 28 + 8 * v->count)) return true;
    p->store_failed = true; /* from now on this coordinator is silent: it could break a promise */
    return false;
}
DLSI_FN dls_status dlsi_views_open(dls_peer *p) {
    const unsigned char *s = (const unsigned char *)p->desc.stored;
    const size_t n = p->desc.stored_bytes;
    uint32_t i, count;
    if ((p->my_role & DLS_ROLE_COORD) == 0) return DLS_OK;
    if (p->desc.store == NULL) return DLS_E_ARG;
    p->elect_at = 0;
    if (s == NULL) return DLS_OK;
    count = n >= 28 ? dlsi_load32(s + 24) : 0;
    if (n < 28 || count > (uint32_t)p->desc.devices_max || n != 28 + 8 * (size_t)count ||
        dls_crc32c(0, s + 4, n - 4) != dlsi_load32(s))
        return DLS_E_FORMAT;
    p->term = dlsi_load32(s + 4);
    p->voted = dlsi_load32(s + 8);
    p->accepted.term = dlsi_load32(s + 12);
    p->accepted.number = dlsi_load32(s + 16);
    p->accepted.coordinator = dlsi_load32(s + 20);
    p->accepted.count = count;
    for (i = 0; i < count; i++) {
        p->accepted.member[i].id = dlsi_load32(s + 28 + 8 * i);
        p->accepted.member[i].boot = dlsi_load32(s + 32 + 8 * i);
    }
    return DLS_OK;
}
DLSI_FN void dlsi_view_say(dls_peer *p, int32_t rank, int32_t phase, const dlsi_view *v) {
    dlsi_ses *s = dlsi_peer_ses(p, rank);
    unsigned char *to;
    const size_t bytes = 16 + (phase == DLSI_VIEW_ACCEPTED ? 0 : 8 * (size_t)v->count);
    uint32_t i;
    if (s == NULL || s->control_used + 4 + bytes > (size_t)p->desc.control_bytes) return;
    to = s->control + s->control_used + 4;
    to[0] = (unsigned char)phase;
    to[1] = 0;
    dlsi_store16(to + 2, phase == DLSI_VIEW_ACCEPTED ? 0 : v->count);
    dlsi_store32(to + 4, v->term);
    dlsi_store32(to + 8, v->number);
    dlsi_store32(to + 12, v->coordinator);
    for (i = 0; 16 + 8 * (size_t)i < bytes; i++) {
        dlsi_store32(to + 16 + 8 * i, v->member[i].id);
        dlsi_store32(to + 20 + 8 * i, v->member[i].boot);
    }
    (void)dlsi_ses_say(p, s, DLS_CONTROL_VIEW, to, bytes);
}
DLSI_FN void dlsi_vote_say(dls_peer *p, int32_t rank, int32_t kind, bool only, uint32_t term) {
    dlsi_ses *s = dlsi_peer_ses(p, rank);
    unsigned char to[14];
    dlsi_store32(to, term);
    dlsi_store32(to + 4, p->accepted.term);
    dlsi_store32(to + 8, p->accepted.number);
    to[12] = (unsigned char)kind;
    to[13] = only ? 1 : 0;
    if (s != NULL) (void)dlsi_ses_say(p, s, DLS_CONTROL_VOTE, to, sizeof to);
}
/* Everybody in it hears of a decided view; also those just left out, so that they know. */
DLSI_FN void dlsi_view_decide(dls_peer *p) {
    int32_t i;
    dlsi_view_copy(&p->view, &p->accepted);
    p->events |= 1u << 0;
    p->pending = false;
    for (i = 0; i < p->count; i++)
        if (i != p->me) dlsi_view_say(p, i, DLSI_VIEW_DECIDED, &p->view);
}
DLSI_FN bool dlsi_view_is_current(const dls_peer *p) {
    int32_t i;
    uint32_t n = 0;
    if (p->view.term != p->term || p->view.number != p->accepted.number ||
        p->again == p->view.number)
        return false;
    for (i = 0; i < p->count; i++) {
        if (!dlsi_member_ready(p, i)) continue;
        if (n >= p->view.count || p->view.member[n].id != p->member[i].device.id ||
            p->view.member[n].boot != (i == p->me ? p->desc.boot : p->ses[p->member[i].ses].boot))
            return false;
        n++;
    }
    return n == p->view.count;
}
DLSI_FN void dlsi_view_propose(dls_peer *p) {
    dlsi_view *v = &p->accepted;
    int32_t i;
    v->number++;
    v->term = p->term;
    v->coordinator = p->member[p->me].device.id;
    v->count = 0;
    for (i = 0; i < p->count; i++) {
        if (!dlsi_member_ready(p, i)) continue;
        v->member[v->count].id = p->member[i].device.id;
        v->member[v->count++].boot = i == p->me ? p->desc.boot : p->ses[p->member[i].ses].boot;
    }
    if (!dlsi_views_store(p)) return;
    dlsi_votes_clear(p);
    p->pending = true;
    for (i = 0; i < p->count; i++)
        if (i != p->me && dlsi_is_coord(p, i)) dlsi_view_say(p, i, DLSI_VIEW_PROPOSED, v);
    if (dlsi_votes(p) >= dlsi_majority(p)) dlsi_view_decide(p);
}
DLSI_FN void dlsi_follow(dls_peer *p, uint32_t leader) {
    p->role = DLSI_FOLLOW;
    p->leader = leader;
    p->pending = false;
}
DLSI_FN void dlsi_lead(dls_peer *p) {
    p->role = DLSI_LEAD;
    p->leader = p->member[p->me].device.id;
    dlsi_view_propose(p);
}
/* Asks for votes: first only whether they would be given, so that a device which merely lost its
   own link to the leader disturbs nobody. */
DLSI_FN void dlsi_elect(dls_peer *p, bool only) {
    int32_t i;
    p->role = only ? DLSI_ASK : DLSI_CANDIDATE;
    p->leader = DLSI_NOBODY;
    dlsi_votes_clear(p);
    if (!only) {
        p->term++;
        p->voted = p->member[p->me].device.id;
        if (!dlsi_views_store(p)) return;
    }
    for (i = 0; i < p->count; i++)
        if (i != p->me && dlsi_is_coord(p, i))
            dlsi_vote_say(p, i, DLSI_VOTE_ASK, only, p->term + (only ? 1u : 0u));
    if (dlsi_votes(p) < dlsi_majority(p)) return;
    if (only)
        dlsi_elect(p, false);
    else
        dlsi_lead(p);
}
DLSI_FN bool dlsi_has_leader(const dls_peer *p) {
    const int32_t leader = p->leader == DLSI_NOBODY ? -1 : dls_peer_rank_of(p, p->leader);
    if (leader < 0 || !dlsi_is_coord(p, leader)) return false;
    if (leader == p->me) return p->role == DLSI_LEAD && dlsi_coords_up(p) >= dlsi_majority(p);
    return dlsi_member_ready(p, leader);
}
DLSI_FN void dlsi_vote_asked(dls_peer *p, int32_t rank, const unsigned char *v) {
    const uint32_t term = dlsi_load32(v), view_term = dlsi_load32(v + 4),
                   number = dlsi_load32(v + 8);
    const bool only = v[13] != 0;
    bool yes, led;
    if (p->member[rank].device.id == p->leader) dlsi_follow(p, DLSI_NOBODY); /* it resigned */
    led = dlsi_has_leader(p);
    yes = view_term > p->accepted.term ||
          (view_term == p->accepted.term && number >= p->accepted.number);
    if (only) {
        yes = yes && !led && term > p->term;
    } else if (term > p->term && !led) {
        p->term = term;
        p->voted = DLSI_NOBODY;
        dlsi_follow(p, DLSI_NOBODY);
        yes = dlsi_views_store(p) && yes;
    }
    if (!only) {
        const uint32_t id = p->member[rank].device.id;
        yes = yes && !led && term == p->term && (p->voted == DLSI_NOBODY || p->voted == id);
        if (yes && p->voted != id) {
            p->voted = id;
            yes = dlsi_views_store(p);
        }
    }
    dlsi_vote_say(p, rank, yes ? DLSI_VOTE_YES : DLSI_VOTE_NO, only, yes ? term : p->term);
}
DLSI_FN void dlsi_vote_take(dls_peer *p, int32_t rank, const unsigned char *v) {
    const uint32_t term = dlsi_load32(v);
    const bool only = v[13] != 0;
    if (!dlsi_is_coord(p, p->me) || !dlsi_is_coord(p, rank) || p->store_failed) return;
    if (v[12] == DLSI_VOTE_ASK) {
        dlsi_vote_asked(p, rank, v);
    } else if (v[12] == DLSI_VOTE_YES) {
        if (p->role != (only ? DLSI_ASK : DLSI_CANDIDATE) || term != p->term + (only ? 1u : 0u))
            return;
        p->member[rank].vote = true;
        if (dlsi_votes(p) < dlsi_majority(p)) return;
        if (only)
            dlsi_elect(p, false);
        else
            dlsi_lead(p);
    } else if (term > p->term) { /* others are further */
        p->term = term;
        p->voted = DLSI_NOBODY;
        dlsi_follow(p, DLSI_NOBODY);
        (void)dlsi_views_store(p);
    }
}
DLSI_FN void dlsi_view_take(dls_peer *p, int32_t rank, const unsigned char *v) {
    const uint32_t term = dlsi_load32(v + 4), number = dlsi_load32(v + 8);
    const bool voter = dlsi_is_coord(p, p->me) && !p->store_failed;
    const bool newer =
        term > p->accepted.term || (term == p->accepted.term && number >= p->accepted.number);
    if (!dlsi_is_coord(p, rank)) return;
    if (v[0] == DLSI_VIEW_ACCEPTED) {
        if (p->role != DLSI_LEAD || !p->pending || term != p->term || number != p->accepted.number)
            return;
        p->member[rank].vote = true;
        if (dlsi_votes(p) >= dlsi_majority(p)) dlsi_view_decide(p);
        return;
    }
    if (voter && term >= p->term && newer) {
        if (term > p->term) p->voted = DLSI_NOBODY;
        p->term = term;
        dlsi_follow(p, p->member[rank].device.id);
        dlsi_view_read(&p->accepted, v);
        if (!dlsi_views_store(p)) return;
        if (v[0] == DLSI_VIEW_PROPOSED) dlsi_view_say(p, rank, DLSI_VIEW_ACCEPTED, &p->accepted);
    }
    if (voter && v[0] == DLSI_VIEW_PROPOSED && term < p->term)
        dlsi_vote_say(p, rank, DLSI_VOTE_NO, false, p->term); /* it leads no more */
    if (v[0] == DLSI_VIEW_DECIDED && number > p->view.number) dlsi_view_adopt(p, v);
}
/* A session came or went: the leader waits a little for others, then decides anew. */
DLSI_FN void dlsi_views_changed(dls_peer *p) { p->settle_at = 0; }
DLSI_FN void dlsi_views_hello(dls_peer *p, int32_t rank) {
    dlsi_views_changed(p);
    if (p->role != DLSI_LEAD) return;
    if (p->view.number > 0) dlsi_view_say(p, rank, DLSI_VIEW_DECIDED, &p->view);
    if (p->pending && dlsi_is_coord(p, rank))
        dlsi_view_say(p, rank, DLSI_VIEW_PROPOSED, &p->accepted);
}
DLSI_FN void dlsi_views_tick(dls_peer *p, uint64_t now) {
    const uint64_t wait = p->desc.heartbeat_us;
    if ((p->my_role & DLS_ROLE_COORD) == 0 || p->store_failed || p->leaving) return;
    if (dlsi_has_leader(p)) {
        p->elect_at = now + dlsi_peer_jitter(p, wait / 2);
        if (p->role != DLSI_LEAD || p->pending || dlsi_view_is_current(p)) return;
        if (p->settle_at == 0 || p->settle_at > now + wait) p->settle_at = now + wait / 8;
        if (now >= p->settle_at) dlsi_view_propose(p);
        return;
    }
    if (p->role == DLSI_LEAD) dlsi_elect(p, true); /* no majority: tells that others may lead */
    if (p->elect_at == 0 || p->elect_at > now + 2 * wait)
        p->elect_at = now + dlsi_peer_jitter(p, wait / 2);
    if (now < p->elect_at) return;
    p->elect_at = now + dlsi_peer_jitter(p, wait);
    if (dlsi_coords_up(p) >= dlsi_majority(p)) dlsi_elect(p, true);
}
DLSI_FN uint64_t dlsi_views_deadline(const dls_peer *p) {
    if ((p->my_role & DLS_ROLE_COORD) == 0 || p->store_failed) return UINT64_MAX;
    if (!dlsi_has_leader(p)) return p->elect_at;
    return p->role == DLSI_LEAD && !p->pending && !dlsi_view_is_current(p) ? p->settle_at
                                                                           : UINT64_MAX;
}
#else
DLSI_FN dls_status dlsi_views_open(dls_peer *p) {
    return (p->my_role & DLS_ROLE_COORD) == 0 ? DLS_OK : DLS_E_UNSUPPORTED;
}
DLSI_FN void dlsi_views_changed(dls_peer *p) { (void)p; }
DLSI_FN void dlsi_views_hello(dls_peer *p, int32_t rank) {
    (void)p;
    (void)rank;
}
DLSI_FN void dlsi_view_take(dls_peer *p, int32_t rank, const unsigned char *v) {
    if ((p->member[rank].device.role & DLS_ROLE_COORD) != 0 && v[0] == 3 &&
        dlsi_load32(v + 8) > p->view.number)
        dlsi_view_adopt(p, v);
}
DLSI_FN void dlsi_vote_take(dls_peer *p, int32_t rank, const unsigned char *v) {
    (void)p;
    (void)rank;
    (void)v;
}
DLSI_FN void dlsi_views_tick(dls_peer *p, uint64_t now) {
    (void)p;
    (void)now;
}
DLSI_FN uint64_t dlsi_views_deadline(const dls_peer *p) {
    (void)p;
    return UINT64_MAX;
}
#endif

/* ---- Rosters ---- */

DLSI_FN void dlsi_roster_offer(dls_peer *p, int32_t rank) {
    dlsi_ses *s = dlsi_peer_ses(p, rank);
    unsigned char to[8];
    if (s == NULL || p->roster == NULL || s->epoch >= p->epoch) return;
    dlsi_store32(to, p->epoch);
    dlsi_store32(to + 4, (uint32_t)p->roster_bytes);
    (void)dlsi_ses_say(p, s, DLS_CONTROL_ROSTER, to, sizeof to);
}
/* Makes the table that of a roster; devices keep their ranks. Those gone are as revoked. */
DLSI_FN dls_status dlsi_roster_merge(dls_peer *p, const dls_roster *r) {
    int32_t i, k, more = 0;
    for (k = 0; k < r->count; k++) more += dls_peer_rank_of(p, r->device[k].id) < 0 ? 1 : 0;
    if (p->count + more > p->desc.devices_max) return DLS_E_LIMIT;
    for (i = 0; i < p->count; i++) {
        dls_device *d = &p->member[i].device;
        for (k = 0; k < r->count && r->device[k].id != d->id; k++) {}
        if (k < r->count && memcmp(d->public_key, r->device[k].public_key, 32) != 0 && i != p->me &&
            p->member[i].ses >= 0)
            dlsi_ses_end(p, p->member[i].ses, DLS_E_REFUSED);
        if (k < r->count)
            *d = r->device[k];
        else
            d->flags |= DLS_DEVICE_REVOKED;
    }
    for (k = 0; k < r->count; k++) {
        if (dls_peer_rank_of(p, r->device[k].id) >= 0) continue;
        dlsi_member_clear(&p->member[p->count]);
        p->member[p->count++].device = r->device[k];
    }
    p->my_role = p->member[p->me].device.role;
    p->epoch = r->epoch;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_roster_take(dls_peer *p, const void *bytes, size_t count, bool trusted) {
    dls_roster r;
    int32_t i;
    dls_status st;
    if (p->desc.root == NULL && !trusted) return DLS_E_AUTH;
    st = dls_roster_read(&r, p->incoming, p->desc.devices_max, bytes, count,
                         p->desc.root != NULL ? p->root : NULL);
    if (st != DLS_OK) return st;
    if (r.group != p->group) return DLS_E_MISMATCH;
    if (r.epoch < p->epoch) return DLS_E_STATE;
    if (r.epoch > p->epoch) {
        st = dlsi_roster_merge(p, &r);
        if (st != DLS_OK) return st;
        p->events |= 1u << 1;
    }
    p->roster = (const unsigned char *)bytes;
    p->roster_bytes = count;
    for (i = 0; i < p->desc.sessions_max; i++) /* the revoked are out at once */
        if (p->ses[i].state != DLSI_SES_FREE &&
            (p->member[p->ses[i].rank].device.flags & DLS_DEVICE_REVOKED) != 0)
            dlsi_ses_end(p, i, DLS_E_REFUSED);
    for (i = 0; i < p->count; i++) dlsi_roster_offer(p, i);
    return (p->member[p->me].device.flags & DLS_DEVICE_REVOKED) != 0 ? DLS_E_REFUSED : DLS_OK;
}
DLS_API dls_status dls_peer_roster(dls_peer *peer, const void *bytes, size_t count, uint64_t now) {
    dls_status st;
    if (peer->desc.roster == NULL) return DLS_E_STATE;
    st = dlsi_roster_take(peer, bytes, count, true);
    dls_peer_tick(peer, now);
    return st;
}
DLS_API void dls_peer_roster_space(dls_peer *peer, void *mem, size_t bytes) {
    peer->roster_space = (unsigned char *)mem;
    peer->roster_room = bytes;
}
/* A peer has a newer one. */
DLSI_FN void dlsi_roster_offered(dls_peer *p, int32_t rank, const unsigned char *v) {
    const uint32_t bytes = dlsi_load32(v + 4);
    if (dlsi_load32(v) <= p->epoch || p->roster_op >= 0 || p->roster_space == NULL ||
        bytes > p->roster_room || p->roster == p->roster_space)
        return;
    p->roster_op = dls_peer_recv(p, rank, DLSI_TAG_ROSTER, p->roster_space, bytes);
    p->roster_from = rank;
}
DLSI_FN void dlsi_roster_tick(dls_peer *p) {
    dls_status st = DLS_OK;
    if (p->roster_op < 0) return;
    if (p->op[p->roster_op].status < 0) return;
    {
        const size_t bytes = p->op[p->roster_op].bytes;
        (void)dls_peer_op_done(p, p->roster_op, &st);
        p->roster_op = -1;
        if (st == DLS_OK)
            (void)dlsi_roster_take(p, p->roster_space, bytes,
                                   (p->member[p->roster_from].device.role & DLS_ROLE_COORD) != 0);
    }
}

/* ---- Packets in ---- */

DLSI_FN dls_status dlsi_chunk_take(dls_peer *p, const dlsi_ses *s, const dls_frame *f,
                                   bool *accepted) {
    dlsi_op *o = dlsi_op_wanted(p, s->rank, f->a);
    if (o == NULL) return DLS_OK; /* late: it is over */
    if (f->b > o->bytes || f->bytes > o->bytes - f->b) return DLS_E_FORMAT;
    if (!dlsi_op_place(o, f->b, f->b + (uint32_t)f->bytes)) {
        *accepted = false;
        return DLS_OK;
    }
    if (f->bytes > 0) memcpy(o->data + f->b, f->body, f->bytes);
    dlsi_op_received(p, o);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_want_take(dls_peer *p, int32_t rank, const unsigned char *v) {
    dlsi_want *w = NULL;
    int32_t i, had = 0;
    for (i = 0; i < p->wants * p->desc.devices_max; i++) {
        had += p->want[i].rank == rank ? 1 : 0;
        if (w == NULL && p->want[i].rank < 0) w = &p->want[i];
    }
    if (w == NULL || had >= p->wants) return DLS_E_LIMIT;
    w->id = dlsi_load32(v);
    w->tag = dlsi_load32(v + 4);
    w->bytes = dlsi_load32(v + 8);
    w->from = dlsi_load32(v + 12);
    w->order = p->order++;
    w->rank = rank;
    if (w->tag == DLSI_TAG_ROSTER && p->roster != NULL) {
        const int32_t op = dls_peer_send(p, rank, w->tag, p->roster, p->roster_bytes);
        if (op >= 0) p->op[op].own = true;
    } else {
        dlsi_op_match(p, rank, w->tag);
    }
    return DLS_OK;
}
DLSI_FN void dlsi_drop_take(dls_peer *p, int32_t rank, uint32_t want) {
    dlsi_op *o = dlsi_op_sending(p, rank, want);
    int32_t i;
    if (o != NULL) o->status = (int32_t)DLS_E_PEER;
    for (i = 0; i < p->wants * p->desc.devices_max; i++)
        if (p->want[i].rank == rank && p->want[i].id == want) p->want[i].rank = -1;
}
DLSI_FN dls_status dlsi_hello_take(dls_peer *p, int32_t i, const dls_control *c) {
    dlsi_ses *s = &p->ses[i];
    dls_hello h;
    const dls_status st = dls_hello_read(&h, c->payload, c->bytes);
    if (st != DLS_OK) return st;
    if (s->hello) return DLS_E_FORMAT;
    if (h.real_bytes != sizeof(dls_real) ||
        (h.size != 0) != (s->pattern == 0 && p->desc.roster == NULL) ||
        (h.size != 0 && h.size != (uint32_t)p->count))
        return DLS_E_MISMATCH;
    if (p->desc.roster == NULL) memcpy(p->member[s->rank].device.name, h.name, 15);
    s->hello = true;
    s->wants_max = (uint16_t)dlsi_min_u32(h.wants, 0xFFFF);
    dlsi_peer_event_at(p, s->rank, DLS_PEER_UP);
    dlsi_op_ask(p, s->rank);
    dlsi_roster_offer(p, s->rank);
    dlsi_views_hello(p, s->rank);
    if (p->member[s->rank].device.id == p->view.coordinator) dlsi_again_say(p);
    p->routes_due = true;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_control_take(dls_peer *p, int32_t i, const dls_control *c) {
    dlsi_ses *s = &p->ses[i];
    const int32_t rank = s->rank;
    dlsi_op *o;
    if (c->type == DLS_CONTROL_HELLO) return dlsi_hello_take(p, i, c);
    if (!s->hello) return DLS_E_FORMAT;
    switch (c->type) {
    case DLS_CONTROL_WANT: return dlsi_want_take(p, rank, c->payload);
    case DLS_CONTROL_REFUSE:
        o = dlsi_op_wanted(p, rank, dlsi_load32(c->payload));
        if (o == NULL) break;
        dlsi_op_begun(p, o);
        o->status = (int32_t)(c->payload[4] == DLS_E_MISMATCH ? DLS_E_MISMATCH : DLS_E_PEER);
        break;
    case DLS_CONTROL_DROP: dlsi_drop_take(p, rank, dlsi_load32(c->payload)); break;
    case DLS_CONTROL_LEAVE: dlsi_ses_end(p, i, DLS_OK); break;
    case DLS_CONTROL_ROUTES: dlsi_routes_take(p, i, c->payload, c->bytes); break;
    case DLS_CONTROL_ROSTER: dlsi_roster_offered(p, rank, c->payload); break;
    case DLS_CONTROL_VOTE: dlsi_vote_take(p, rank, c->payload); break;
    case DLS_CONTROL_VIEW:
        if (!dlsi_view_room(p, c->payload, c->bytes)) return DLS_E_FORMAT;
        dlsi_view_take(p, rank, c->payload);
        break;
    case DLS_CONTROL_AGAIN:
        if (dlsi_load32(c->payload) == p->view.number) p->again = p->view.number;
        break;
    default: break; /* of a newer minor version */
    }
    return DLS_OK;
}
/* Whole messages, numbered; those had before are skipped, those that come too early refused. */
DLSI_FN dls_status dlsi_ses_take_control(dls_peer *p, int32_t i, const dls_frame *f,
                                         bool *accepted) {
    dlsi_ses *s = &p->ses[i];
    const uint32_t index = s->index;
    uint16_t number = (uint16_t)f->a;
    size_t at = 0, used;
    if ((int16_t)(uint16_t)(number - s->control_expected) > 0) {
        *accepted = false;
        return DLS_OK;
    }
    for (; at < f->bytes; at += used, number = (uint16_t)(number + 1)) {
        dls_control c;
        dls_status st = dls_control_read(&c, f->body + at, f->bytes - at, &used);
        if (st != DLS_OK) return st;
        if (number != s->control_expected) continue;
        s->control_expected = (uint16_t)(number + 1);
        st = dlsi_control_take(p, i, &c);
        if (st != DLS_OK) return st;
        if (s->state == DLSI_SES_FREE || s->index != index) return DLS_OK; /* it ended */
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_ses_take_ack(dls_peer *p, dlsi_ses *s, const dls_frame *f, uint64_t now) {
    uint32_t ref[4];
    size_t used;
    const dls_status st =
        s->lossy ? dls_flow_ack_read(&s->flow, f->body, f->bytes, &used, now) : DLS_E_FORMAT;
    if (st != DLS_OK) return st;
    while (dls_flow_next_acked(&s->flow, ref)) {
        dlsi_op *o = (ref[1] & 0xFFFFu) != 0 ? &p->op[(ref[1] & 0xFFFFu) - 1] : NULL;
        if (ref[0] >> 16 != 0)
            dlsi_ses_control_gone(s, (uint16_t)((ref[0] & 0xFFFFu) + (ref[0] >> 16)));
        if (o != NULL && o->kind == DLSI_OP_SEND && o->status < 0 &&
            (o->order & 0xFFFFu) == ref[1] >> 16)
            dlsi_op_sent(o, ref[3]);
    }
    return DLS_OK;
}
DLSI_FN dls_status dlsi_ses_take(dls_peer *p, int32_t i, unsigned char *at, size_t n,
                                 uint64_t number, uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    const uint32_t index = s->index;
    bool accepted = true, elicits = false;
    dls_status st = DLS_OK;
    size_t used;
    for (; n > 0 && st == DLS_OK; at += used, n -= used) {
        dls_frame f;
        st = dls_frame_read(&f, at, n, &used);
        if (st != DLS_OK || f.kind == DLS_FRAME_PADDING) break;
        elicits = elicits || f.kind != DLS_FRAME_ACK;
        if (f.kind == DLS_FRAME_ACK) st = dlsi_ses_take_ack(p, s, &f, now);
        if (f.kind == DLS_FRAME_CONTROL) st = dlsi_ses_take_control(p, i, &f, &accepted);
        if (f.kind == DLS_FRAME_CHUNK) st = dlsi_chunk_take(p, s, &f, &accepted);
        if (f.kind == DLS_FRAME_RELAY) {
            if (s->via >= 0) return DLS_E_FORMAT;
            dlsi_relay_take(p, i, &f, at + 10, now);
        }
        if (s->state == DLSI_SES_FREE || s->index != index) return DLS_OK;
    }
    if (st == DLS_OK && s->lossy && accepted) dls_flow_received(&s->flow, number, elicits, now);
    if (st != DLS_OK) dlsi_ses_end(p, i, st);
    return st;
}
DLSI_FN dls_status dlsi_data_take(dls_peer *p, int32_t port, int32_t via, const dls_addr *from,
                                  unsigned char *packet, size_t n, uint64_t now) {
    dls_data_head h;
    uint64_t number;
    dlsi_ses *s;
    dls_status st = dls_data_head_read(&h, packet, n);
    if (st != DLS_OK) return st;
    s = dlsi_ses_at(p, h.index);
    if (s == NULL || s->state < DLSI_SES_HALF || s->via != via || (via < 0 && s->port != port))
        return DLS_E_STATE;
    number = dls_session_counter(&s->record, h.counter, 32);
    n -= DLS_HEAD_BYTES;
    if (!s->clear) {
        if (n < DLS_RECORD_TAG) return DLS_E_FORMAT;
        n -= DLS_RECORD_TAG;
        st = dls_session_open(&s->record, number, packet + DLS_HEAD_BYTES, packet + DLS_HEAD_BYTES,
                              n, packet + DLS_HEAD_BYTES + n, packet, DLS_HEAD_BYTES);
        if (st != DLS_OK) return st;
    }
    if (s->state == DLSI_SES_HALF) dlsi_ses_up(p, (int32_t)(s - p->ses), now);
    if (from != NULL) s->addr = *from; /* authentic: it may have moved */
    s->heard = now;
    return dlsi_ses_take(p, (int32_t)(s - p->ses), packet + DLS_HEAD_BYTES, n, number, now);
}
/* Any packet. What it returns matters to streams only: there, nothing strange may come. */
DLSI_FN dls_status dlsi_peer_packet(dls_peer *p, int32_t port, int32_t via, const dls_addr *from,
                                    unsigned char *packet, size_t n, uint64_t now) {
    if (n == 0) return DLS_E_FORMAT;
    switch (packet[0]) {
    case DLS_PACKET_INIT: return dlsi_init_take(p, packet, n, port, via, from, now);
    case DLS_PACKET_RESP: return dlsi_resp_take(p, packet, n, now);
    case DLS_PACKET_COOKIE: return dlsi_cookie_take(p, packet, n, now);
    case DLS_PACKET_DATA: return dlsi_data_take(p, port, via, from, packet, n, now);
    default: return DLS_E_FORMAT;
    }
}

/* ---- Ports ---- */

DLSI_FN bool dlsi_port_valid(const dls_peer *p, int32_t port) {
    return port >= 0 && port < p->desc.ports_max && p->port[port].open;
}
DLS_API int32_t dls_peer_port_open(dls_peer *peer, const dls_port_desc *desc, uint64_t now) {
    dlsi_port *t;
    int32_t i;
    for (i = 0; i < peer->desc.ports_max && peer->port[i].open; i++) {}
    if (i == peer->desc.ports_max || desc->mtu < 64 || desc->mtu > 65535 || peer->leaving ||
        desc->kind < DLS_PORT_PACKET || desc->kind > DLS_PORT_STREAM ||
        desc->bytes < DLS_PORT_BYTES(desc->kind, desc->mtu) ||
        (desc->mem == NULL && desc->kind != DLS_PORT_PACKET) ||
        (desc->call && (desc->rank < 0 || desc->rank >= peer->count)))
        return -1;
    t = &peer->port[i];
    memset(t, 0, sizeof *t);
    t->open = true;
    t->desc = *desc;
    t->ses = t->rx_op = t->tx_op = -1;
    t->since = now;
    if (desc->kind != DLS_PORT_PACKET) {
        t->in = (unsigned char *)desc->mem;
        t->out = t->in + DLS_COBS_BYTES((size_t)desc->mtu) + 4;
        if (desc->kind == DLS_PORT_SERIAL) dls_cobs_init(&t->cobs, t->in, (size_t)desc->mtu + 4);
    }
    if (desc->call) (void)dlsi_ses_make(peer, DLSI_SES_CALLING, desc->rank, i, -1, now);
    return i;
}
DLS_API void dls_peer_port_close(dls_peer *peer, int32_t port, uint64_t now) {
    int32_t i;
    (void)now;
    if (!dlsi_port_valid(peer, port)) return;
    for (i = 0; i < peer->desc.sessions_max; i++)
        if (peer->ses[i].state != DLSI_SES_FREE && peer->ses[i].via < 0 &&
            peer->ses[i].port == port)
            dlsi_ses_end(peer, i, peer->ses[i].state == DLSI_SES_LEAVING ? DLS_OK : DLS_E_PEER);
    for (i = 0; i < peer->count; i++)
        if (peer->member[i].call_port == port) peer->member[i].call_port = -1;
    peer->port[port].open = false;
}
DLS_API bool dls_peer_port_done(const dls_peer *peer, int32_t port) {
    const dlsi_port *t = &peer->port[port];
    const dlsi_ses *s = dlsi_port_valid(peer, port) && t->ses >= 0 ? &peer->ses[t->ses] : NULL;
    if (!dlsi_port_valid(peer, port)) return false;
    return t->done || (s != NULL && s->state == DLSI_SES_LEAVING && s->control_used == 0 &&
                       t->out_at == t->out_used && t->chunk_left == 0);
}
DLS_API void dls_peer_call(dls_peer *peer, int32_t rank, int32_t port, const dls_addr *to,
                           uint64_t now) {
    dlsi_member *m;
    if (!dlsi_port_valid(peer, port) || rank < 0 || rank >= peer->count || rank == peer->me) return;
    m = &peer->member[rank];
    if (m->call_port == port && m->call_addr.size == to->size &&
        memcmp(m->call_addr.bytes, to->bytes, to->size) == 0)
        return;
    m->call_port = port;
    m->call_addr = *to;
    m->calls = 0;
    m->again = now;
}

/* What a stream's next packet is: read its length, then perhaps the head of a plain chunk, whose
   body goes straight to the memory it is meant for. */
DLSI_FN void dlsi_stream_begin(dlsi_port *t) {
    t->rx = DLSI_RX_LENGTH;
    t->in_used = 0;
    t->in_need = 4;
}
DLSI_FN dls_status dlsi_stream_length(dls_peer *p, dlsi_port *t) {
    const uint32_t n = dlsi_load32(t->length);
    const bool clear = t->ses >= 0 && p->ses[t->ses].clear && p->ses[t->ses].state >= DLSI_SES_HALF;
    if (n == 0 || n > (clear ? DLSI_CLEAR_CHUNK + 17 : (uint32_t)t->desc.mtu)) return DLS_E_FORMAT;
    t->rx = clear && n > 17 ? DLSI_RX_PEEK : DLSI_RX_REST;
    t->in_used = 0;
    t->in_need = t->rx == DLSI_RX_PEEK ? 17 : n;
    t->body_left = n;
    return DLS_OK;
}
DLSI_FN dls_status dlsi_stream_peek(dls_peer *p, dlsi_port *t, uint64_t now) {
    dlsi_ses *s = &p->ses[t->ses];
    dls_data_head h;
    dls_frame f;
    dlsi_op *o;
    size_t used;
    const size_t n = t->body_left;
    if (dls_data_head_read(&h, t->in, 17) != DLS_OK || h.index != s->index ||
        dls_frame_read(&f, t->in + DLS_HEAD_BYTES, 9, &used) != DLS_OK ||
        f.kind != DLS_FRAME_CHUNK) {
        if (n > (size_t)t->desc.mtu) return DLS_E_FORMAT;
        t->rx = DLSI_RX_REST;
        t->in_need = n;
        return DLS_OK;
    }
    if (s->state == DLSI_SES_HALF) dlsi_ses_up(p, t->ses, now);
    o = dlsi_op_wanted(p, s->rank, f.a);
    t->rx = DLSI_RX_BODY;
    t->body_left = n - 17;
    t->rx_op = o != NULL ? (int32_t)(o - p->op) : -1;
    t->rx_at = f.b;
    if (o != NULL && (f.b > o->bytes || t->body_left > o->bytes - f.b)) return DLS_E_FORMAT;
    t->rx_want = f.a;
    return DLS_OK;
}
/* The receive whose memory a body goes to; NULL: it ended meanwhile. */
DLSI_FN dlsi_op *dlsi_stream_target(dls_peer *p, const dlsi_port *t) {
    dlsi_op *o =
        t->rx_op >= 0 && t->ses >= 0 ? dlsi_op_wanted(p, p->ses[t->ses].rank, t->rx_want) : NULL;
    return o != NULL && o == &p->op[t->rx_op] ? o : NULL;
}
DLS_API void *dls_peer_rx_span(dls_peer *peer, int32_t port, size_t *size) {
    dlsi_port *t = &peer->port[port];
    *size = 0;
    if (!dlsi_port_valid(peer, port) || t->done || t->desc.kind != DLS_PORT_STREAM) return NULL;
    if (t->in_need == 0) dlsi_stream_begin(t);
    if (t->rx == DLSI_RX_BODY) {
        dlsi_op *o = dlsi_stream_target(peer, t);
        *size = t->body_left;
        if (o != NULL) return o->data + t->rx_at;
        *size = dlsi_min_size(t->body_left, (size_t)t->desc.mtu);
        return t->in; /* nobody wants it any more */
    }
    *size = t->in_need - t->in_used;
    return (t->rx == DLSI_RX_LENGTH ? t->length : t->in) + t->in_used;
}
DLSI_FN dls_status dlsi_stream_body(dls_peer *p, dlsi_port *t, size_t n, uint64_t now) {
    dlsi_op *o = dlsi_stream_target(p, t);
    t->body_left -= n;
    if (o != NULL) {
        (void)dlsi_op_place(o, t->rx_at, t->rx_at + (uint32_t)n);
        dlsi_op_received(p, o);
    }
    t->rx_at += (uint32_t)n;
    if (t->ses >= 0) p->ses[t->ses].heard = now;
    if (t->body_left == 0) dlsi_stream_begin(t);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_stream_done(dls_peer *p, int32_t port, uint64_t now) {
    dlsi_port *t = &p->port[port];
    const size_t n = t->in_used;
    if (t->rx == DLSI_RX_LENGTH) return dlsi_stream_length(p, t);
    if (t->rx == DLSI_RX_PEEK) return dlsi_stream_peek(p, t, now);
    dlsi_stream_begin(t);
    return dlsi_peer_packet(p, port, -1, NULL, t->in, n, now);
}
DLS_API dls_status dls_peer_rx_done(dls_peer *peer, int32_t port, size_t n, uint64_t now) {
    dlsi_port *t = &peer->port[port];
    dls_status st = DLS_OK;
    if (!dlsi_port_valid(peer, port) || t->done || n == 0) return DLS_OK;
    if (t->rx == DLSI_RX_BODY) return dlsi_stream_body(peer, t, n, now);
    t->in_used += n;
    if (t->in_used == t->in_need) st = dlsi_stream_done(peer, port, now);
    if (st == DLS_OK) return DLS_OK;
    if (t->ses >= 0) dlsi_ses_end(peer, t->ses, st);
    t->done = true;
    return st;
}
DLS_API dls_status dls_peer_rx(dls_peer *peer, int32_t port, const void *bytes, size_t n,
                               uint64_t now) {
    const unsigned char *from = (const unsigned char *)bytes;
    dlsi_port *t = &peer->port[port];
    dls_status st = DLS_OK;
    size_t at = 0, size;
    if (!dlsi_port_valid(peer, port)) return DLS_E_ARG;
    while (at < n && st == DLS_OK) {
        if (t->desc.kind == DLS_PORT_SERIAL) {
            const size_t packet = dls_cobs_read(&t->cobs, from + at, n - at, &size);
            at += size;
            if (packet > 0) (void)dlsi_peer_packet(peer, port, -1, NULL, t->in, packet, now);
        } else {
            void *to = dls_peer_rx_span(peer, port, &size);
            if (size == 0) break;
            size = dlsi_min_size(size, n - at);
            memcpy(to, from + at, size);
            at += size;
            st = dls_peer_rx_done(peer, port, size, now);
        }
    }
    return st;
}
DLS_API void dls_peer_rx_packet(dls_peer *peer, int32_t port, const dls_addr *from, void *bytes,
                                size_t n, uint64_t now) {
    if (!dlsi_port_valid(peer, port) || peer->port[port].desc.kind != DLS_PORT_PACKET) return;
    (void)dlsi_peer_packet(peer, port, -1, from, (unsigned char *)bytes, n, now);
}

/* A plain chunk on a stream: its head from `out`, its body from the op's own memory. */
DLSI_FN void dlsi_stream_chunk(dls_peer *p, dlsi_port *t, uint64_t now) {
    dlsi_ses *s = &p->ses[t->ses];
    const int32_t i = dlsi_ses_next_op(p, s);
    dls_data_head h;
    dlsi_op *o;
    uint32_t n;
    if (i < 0) return;
    o = &p->op[i];
    n = (uint32_t)dlsi_min_size(o->bytes - o->next, DLSI_CLEAR_CHUNK);
    dlsi_store32(t->out, 17 + n);
    h.index = s->their_index;
    h.counter = (uint32_t)(s->record.sent++ & 0xFFFFFFFFu);
    dls_data_head_write(&h, t->out + 4);
    (void)dlsi_ses_put_chunk(o, o->next, 0, t->out + 12);
    t->out_used = 21;
    t->tx_op = i;
    t->tx_order = o->order;
    t->chunk_left = n;
    o->begun = true;
    s->spoke = now;
    if (n == 0) dlsi_op_sent(o, 0);
}
DLSI_FN void dlsi_bytes_next(dls_peer *p, int32_t port, uint64_t now) {
    dlsi_port *t = &p->port[port];
    size_t n;
    t->out_at = t->out_used = 0;
    if (t->ses < 0) return;
    if (t->desc.kind == DLS_PORT_SERIAL) {
        const size_t room = DLS_COBS_BYTES((size_t)t->desc.mtu);
        unsigned char *raw = t->out + room - (size_t)t->desc.mtu;
        n = dlsi_ses_packet(p, t->ses, raw, (size_t)t->desc.mtu, now);
        if (n > 0) t->out_used = dls_cobs_write(t->out, room, raw, n);
        return;
    }
    n = dlsi_ses_packet(p, t->ses, t->out + 4, (size_t)t->desc.mtu, now);
    if (n > 0) {
        dlsi_store32(t->out, (uint32_t)n);
        t->out_used = n + 4;
    } else if (t->ses >= 0 && p->ses[t->ses].clear && p->ses[t->ses].state == DLSI_SES_UP) {
        dlsi_stream_chunk(p, t, now);
    }
}
DLS_API const void *dls_peer_tx_span(dls_peer *peer, int32_t port, size_t *size, uint64_t now) {
    dlsi_port *t = &peer->port[port];
    const dlsi_op *o;
    *size = 0;
    if (!dlsi_port_valid(peer, port) || t->done || t->desc.kind == DLS_PORT_PACKET) return NULL;
    if (t->out_at == t->out_used && t->chunk_left == 0) dlsi_bytes_next(peer, port, now);
    if (t->out_at < t->out_used) {
        *size = t->out_used - t->out_at;
        return t->out + t->out_at;
    }
    if (t->chunk_left == 0) return NULL;
    o = &peer->op[t->tx_op];
    if (o->kind != DLSI_OP_SEND || o->order != t->tx_order || o->status >= 0) {
        if (t->ses >= 0) dlsi_ses_end(peer, t->ses, DLS_E_PEER); /* its memory is not ours now */
        t->done = true;
        return NULL;
    }
    *size = t->chunk_left;
    return o->data + o->next;
}
DLS_API void dls_peer_tx_done(dls_peer *peer, int32_t port, size_t n, uint64_t now) {
    dlsi_port *t = &peer->port[port];
    (void)now;
    if (!dlsi_port_valid(peer, port) || n == 0) return;
    if (t->out_at < t->out_used) {
        t->out_at += n;
        return;
    }
    t->chunk_left -= n;
    peer->op[t->tx_op].next += (uint32_t)n;
    dlsi_op_sent(&peer->op[t->tx_op], (uint32_t)n);
}
DLS_API size_t dls_peer_tx_packet(dls_peer *peer, int32_t port, dls_addr *to, void *buf,
                                  uint64_t now) {
    dlsi_port *t = &peer->port[port];
    int32_t k;
    if (!dlsi_port_valid(peer, port) || t->desc.kind != DLS_PORT_PACKET) return 0;
    if (peer->reply.port == port) {
        peer->reply.port = -1;
        *to = peer->reply.to;
        memcpy(buf, peer->reply.bytes, sizeof peer->reply.bytes);
        return sizeof peer->reply.bytes;
    }
    for (k = 0; k < peer->desc.sessions_max; k++) { /* in turn */
        const int32_t i = (int32_t)((t->turn + (uint32_t)k) % (uint32_t)peer->desc.sessions_max);
        const dlsi_ses *s = &peer->ses[i];
        size_t n;
        if (s->state == DLSI_SES_FREE || s->via >= 0 || s->port != port) continue;
        n = dlsi_ses_packet(peer, i, (unsigned char *)buf, (size_t)t->desc.mtu, now);
        if (n == 0) continue;
        *to = s->addr;
        t->turn = (uint32_t)i + 1;
        return n;
    }
    return 0;
}

/* ---- Time ---- */

DLSI_FN void dlsi_ses_tick(dls_peer *p, int32_t i, uint64_t now) {
    dlsi_ses *s = &p->ses[i];
    if (s->state == DLSI_SES_FREE) return;
    if (now < s->heard) s->heard = now; /* the clock jumped back: start over */
    if (now < s->spoke) s->spoke = now;
    if (now < s->since) s->since = now;
    if (s->again > now + 4 * p->desc.heartbeat_us) s->again = now;
    if (s->state == DLSI_SES_LEAVING &&
        (now - s->since > p->desc.heartbeat_us || (s->control_used == 0 && s->lossy))) {
        dlsi_ses_end(p, i, DLS_OK);
        return;
    }
    if (s->state == DLSI_SES_CALLING) return;
    if (now - s->heard > p->desc.timeout_us) {
        dlsi_ses_end(p, i, DLS_E_TIMEOUT);
        return;
    }
    if (s->state != DLSI_SES_UP) return;
    if (s->lossy) dls_flow_tick(&s->flow, now);
    if (now - s->spoke >= p->desc.heartbeat_us) s->ping = true;
    if (!s->clear && dls_session_stale(&s->record)) dlsi_ses_end(p, i, DLS_E_LIMIT);
}
/* Calls a device that is not up: where it was said to be, or else through a gateway. */
DLSI_FN void dlsi_member_call(dls_peer *p, int32_t rank, uint64_t now) {
    dlsi_member *m = &p->member[rank];
    const bool direct = m->call_port >= 0 && (m->route < 0 || m->calls % 2 == 0);
    const int32_t via = m->route;
    int32_t i;
    if (rank == p->me || m->ses >= 0 || (!direct && via < 0)) return;
    if ((m->device.flags & DLS_DEVICE_REVOKED) != 0) return;
    if (dlsi_peer_small(p, rank) && dlsi_peer_small(p, p->me)) return; /* no key in common */
    if (m->again > now + 4 * p->desc.heartbeat_us) m->again = now;
    if (now < m->again || dlsi_ses_find(p, DLSI_SES_CALLING, rank) >= 0 ||
        dlsi_ses_find(p, DLSI_SES_HALF, rank) >= 0)
        return;
    m->again = now + dlsi_peer_jitter(p, p->desc.heartbeat_us);
    m->calls++;
    i = dlsi_ses_make(p, DLSI_SES_CALLING, rank, direct ? m->call_port : p->ses[via].port,
                      direct ? -1 : via, now);
    if (i >= 0 && direct) p->ses[i].addr = m->call_addr;
}
DLSI_FN void dlsi_ports_tick(dls_peer *p, uint64_t now) {
    int32_t i;
    for (i = 0; i < p->desc.ports_max; i++) {
        dlsi_port *t = &p->port[i];
        if (!t->open || t->ses >= 0) continue;
        if (now < t->since) t->since = now;
        if (t->desc.kind == DLS_PORT_STREAM && now - t->since > p->desc.timeout_us)
            t->done = true; /* a stranger who says nothing */
        if (t->desc.kind != DLS_PORT_SERIAL || !t->desc.call) continue;
        if (p->member[t->desc.rank].ses >= 0 || now < p->member[t->desc.rank].again) continue;
        p->member[t->desc.rank].again = now + dlsi_peer_jitter(p, p->desc.heartbeat_us);
        (void)dlsi_ses_make(p, DLSI_SES_CALLING, t->desc.rank, i, -1, now);
    }
}
DLS_API void dls_peer_tick(dls_peer *peer, uint64_t now) {
    int32_t i;
    peer->ticked = now;
    for (i = 0; i < peer->desc.sessions_max; i++) dlsi_ses_tick(peer, i, now);
    dlsi_roster_tick(peer);
    for (i = 0; i < peer->desc.ops_max; i++)
        if (peer->op[i].own && peer->op[i].status >= 0) dls_peer_op_drop(peer, i);
    if (peer->leaving) return;
    dlsi_ports_tick(peer, now);
    for (i = 0; i < peer->count; i++) dlsi_member_call(peer, i, now);
    if (peer->routes_due && peer->desc.gateway) {
        peer->routes_due = false;
        for (i = 0; i < peer->count; i++)
            if (peer->member[i].ses >= 0 && peer->ses[peer->member[i].ses].via < 0 &&
                peer->ses[peer->member[i].ses].hello)
                dlsi_routes_say(peer, peer->member[i].ses);
    }
    dlsi_views_tick(peer, now);
}
/* The sooner of two times. What was due at the last tick waits for its link, not for time. */
DLSI_FN uint64_t dlsi_peer_sooner(const dls_peer *p, uint64_t soon, uint64_t at) {
    return at > p->ticked && at < soon ? at : soon;
}
DLSI_FN uint64_t dlsi_ses_deadline(const dls_peer *p, const dlsi_ses *s) {
    const dls_peer_desc *d = &p->desc;
    uint64_t soon = UINT64_MAX;
    if (s->state == DLSI_SES_CALLING) return dlsi_peer_sooner(p, soon, s->again);
    soon = dlsi_later(dlsi_later(s->heard, d->timeout_us), 1);
    if (s->state == DLSI_SES_LEAVING)
        soon = dlsi_min_u64(soon, dlsi_later(s->since, d->heartbeat_us + 1));
    if (s->state != DLSI_SES_UP) return soon;
    if (!s->ping) soon = dlsi_min_u64(soon, dlsi_later(s->spoke, d->heartbeat_us));
    return s->lossy ? dlsi_peer_sooner(p, soon, dls_flow_deadline(&s->flow)) : soon;
}
DLS_API uint64_t dls_peer_deadline(const dls_peer *peer) {
    uint64_t soon = peer->leaving ? UINT64_MAX : dlsi_views_deadline(peer);
    int32_t i;
    for (i = 0; i < peer->desc.sessions_max; i++)
        if (peer->ses[i].state != DLSI_SES_FREE)
            soon = dlsi_min_u64(soon, dlsi_ses_deadline(peer, &peer->ses[i]));
    for (i = 0; i < peer->count && !peer->leaving; i++) {
        const dlsi_member *m = &peer->member[i];
        if (m->ses < 0 && i != peer->me && (m->call_port >= 0 || m->route >= 0) &&
            (m->device.flags & DLS_DEVICE_REVOKED) == 0)
            soon = dlsi_peer_sooner(peer, soon, m->again);
    }
    for (i = 0; i < peer->desc.ports_max && !peer->leaving; i++) {
        const dlsi_port *t = &peer->port[i];
        if (!t->open || t->ses >= 0) continue;
        if (t->desc.kind == DLS_PORT_STREAM && !t->done)
            soon = dlsi_min_u64(soon, dlsi_later(t->since, peer->desc.timeout_us + 1));
        if (t->desc.kind == DLS_PORT_SERIAL && t->desc.call)
            soon = dlsi_peer_sooner(peer, soon, peer->member[t->desc.rank].again);
    }
    return soon;
}

/* ---- Events and who is there ---- */

/* Oldest first, so that the first loss is told before those that follow from it. */
DLS_API bool dls_peer_next_event(dls_peer *peer, dls_peer_event *event) {
    dlsi_member *m = NULL;
    int32_t i, bit, rank = 0, type = 0;
    for (i = 0; i < peer->count; i++) {
        for (bit = 0; bit < 3; bit++) {
            if ((peer->member[i].events >> bit & 1u) == 0) continue;
            if (m != NULL && (int32_t)(peer->member[i].stamp[bit] - m->stamp[type]) >= 0) continue;
            m = &peer->member[i];
            rank = i;
            type = bit;
        }
    }
    memset(event, 0, sizeof *event);
    if (m != NULL) {
        m->events &= (uint8_t) ~(1u << type);
        event->type = (dls_peer_event_type)(type + 1);
        event->rank = rank;
        event->status = event->type == DLS_PEER_LOST ? (dls_status)m->status : DLS_OK;
        return true;
    }
    event->rank = peer->me;
    for (bit = 0; bit < 2; bit++) {
        if ((peer->events >> bit & 1u) == 0) continue;
        peer->events &= (uint8_t) ~(1u << bit);
        event->type = (dls_peer_event_type)(DLS_PEER_VIEW + bit);
        return true;
    }
    return false;
}
DLS_API bool dls_peer_is_up(const dls_peer *peer, int32_t rank) {
    return rank >= 0 && rank < peer->count &&
           (rank == peer->me ||
            (peer->member[rank].ses >= 0 && peer->ses[peer->member[rank].ses].hello));
}
DLS_API int32_t dls_peer_up(const dls_peer *peer) {
    int32_t i, n = 0;
    for (i = 0; i < peer->count; i++) n += dls_peer_is_up(peer, i) ? 1 : 0;
    return n;
}
DLS_API bool dls_peer_is_relayed(const dls_peer *peer, int32_t rank) {
    return dls_peer_is_up(peer, rank) && rank != peer->me &&
           peer->ses[peer->member[rank].ses].via >= 0;
}
DLS_API int32_t dls_peer_count(const dls_peer *peer) { return peer->count; }
DLS_API const char *dls_peer_name(const dls_peer *peer, int32_t rank) {
    return rank >= 0 && rank < peer->count ? peer->member[rank].device.name : "";
}
DLS_API dls_status dls_peer_why(const dls_peer *peer, int32_t rank) {
    return rank >= 0 && rank < peer->count ? (dls_status)peer->member[rank].status : DLS_E_ARG;
}
/* Whether anybody was lost and is not back. Those who left in good order do not count. */
DLSI_FN bool dlsi_peer_any_lost(const dls_peer *p) {
    int32_t i;
    for (i = 0; i < p->count && (p->member[i].ses >= 0 || p->member[i].status == 0); i++) {}
    return i < p->count;
}
DLS_API void dls_peer_leave(dls_peer *peer) {
    int32_t i;
    peer->leaving = true;
    for (i = 0; i < peer->desc.sessions_max; i++) {
        dlsi_ses *s = &peer->ses[i];
        if (s->state == DLSI_SES_CALLING || s->state == DLSI_SES_HALF) {
            dlsi_ses_end(peer, i, DLS_OK);
        } else if (s->state == DLSI_SES_UP) {
            (void)dlsi_ses_say(peer, s, DLS_CONTROL_LEAVE, NULL, 0);
            s->state = DLSI_SES_LEAVING;
            s->since = s->heard > s->spoke ? s->heard : s->spoke;
        }
    }
}

/* ---- Messages ---- */

DLSI_FN int32_t dlsi_peer_op(dls_peer *p, int32_t kind, int32_t rank, uint32_t tag, void *data,
                             size_t bytes, size_t from) {
    dlsi_op *o;
    int32_t i;
    for (i = 0; i < p->desc.ops_max && p->op[i].kind != DLSI_OP_FREE; i++) {}
    if (i == p->desc.ops_max) return -1;
    o = &p->op[i];
    memset(o, 0, sizeof *o);
    o->kind = (uint8_t)kind;
    o->rank = rank;
    o->tag = tag;
    o->order = p->order++;
    o->data = (unsigned char *)data;
    o->bytes = (uint32_t)bytes;
    o->done = (uint32_t)from;
    o->priority = DLS_CLASS_GRADIENT;
    o->status = rank != p->me && dls_peer_is_up(p, rank) ? -1 : (int32_t)DLS_E_PEER;
    if (o->bytes != bytes || from > bytes) o->status = (int32_t)DLS_E_LIMIT;
    return i;
}
DLS_API int32_t dls_peer_send(dls_peer *peer, int32_t rank, uint32_t tag, const void *data,
                              size_t bytes) {
    const int32_t op =
        dlsi_peer_op(peer, DLSI_OP_SEND, rank, tag, (void *)(uintptr_t)data, bytes, 0);
    if (op >= 0 && peer->op[op].status < 0) dlsi_op_match(peer, rank, tag);
    return op;
}
DLS_API int32_t dls_peer_recv_from(dls_peer *peer, int32_t rank, uint32_t tag, void *data,
                                   size_t bytes, size_t from) {
    const int32_t op = dlsi_peer_op(peer, DLSI_OP_RECV, rank, tag, data, bytes, from);
    if (op < 0) return op;
    /* the slot, and a number that the slot has not had for long */
    peer->op[op].want = (uint32_t)op | (peer->op[op].order & 0xFFFFu) << 16;
    if (peer->op[op].status < 0) dlsi_op_ask(peer, rank);
    return op;
}
DLS_API int32_t dls_peer_recv(dls_peer *peer, int32_t rank, uint32_t tag, void *data,
                              size_t bytes) {
    return dls_peer_recv_from(peer, rank, tag, data, bytes, 0);
}
DLS_API size_t dls_peer_op_have(const dls_peer *peer, int32_t op) {
    return op >= 0 && op < peer->desc.ops_max ? peer->op[op].done : 0;
}
DLS_API void dls_peer_op_class(dls_peer *peer, int32_t op, dls_class kind) {
    if (op >= 0 && op < peer->desc.ops_max) peer->op[op].priority = (uint8_t)kind;
}
DLS_API bool dls_peer_op_done(dls_peer *peer, int32_t op, dls_status *status) {
    if (op < 0 || op >= peer->desc.ops_max || peer->op[op].kind == DLSI_OP_FREE) {
        *status = DLS_E_ARG;
        return true;
    }
    if (peer->op[op].status < 0) return false;
    *status = (dls_status)peer->op[op].status;
    peer->op[op].kind = DLSI_OP_FREE;
    return true;
}
DLS_API void dls_peer_op_drop(dls_peer *peer, int32_t op) {
    unsigned char want[4];
    dlsi_ses *s;
    dlsi_op *o;
    if (op < 0 || op >= peer->desc.ops_max || peer->op[op].kind == DLSI_OP_FREE) return;
    o = &peer->op[op];
    s = o->status < 0 && o->matched ? dlsi_peer_ses(peer, o->rank) : NULL;
    if (s != NULL && o->kind == DLSI_OP_SEND) {
        dlsi_op_refuse(peer, o->rank, o->want, DLS_E_PEER);
    } else if (s != NULL) {
        dlsi_store32(want, o->want);
        (void)dlsi_ses_say(peer, s, DLS_CONTROL_DROP, want, sizeof want);
        dlsi_op_begun(peer, o);
    }
    o->kind = DLSI_OP_FREE;
    o->own = false;
}

/* ------------------------------------------------------------------------------------------------
   >>coll.impl                                            deps: config base wire peer coll.api
   Ring: the array is `size` chunks. In step s < size - 1, rank r sends chunk r - s to r + 1 and
   adds what comes from r - 1 to chunk r - s - 1; then chunk r + 1 is complete at r, and size - 1
   more steps pass complete chunks on. */

DLSI_FN uint32_t dlsi_swap32(uint32_t x) {
    return x >> 24 | (x >> 8 & 0xFF00u) | (x << 8 & 0xFF0000u) | x << 24;
}
DLSI_FN size_t dlsi_reduce_bytes(dls_reduce reduce) {
    return reduce == DLS_REDUCE_SUM_I32 ? 4u : 1u;
}
DLSI_FN size_t dlsi_coll_members(int32_t size) {
    return dlsi_round_up((size_t)dlsi_max_i32(size, 1) * sizeof(int32_t), DLS_ALIGN);
}
DLS_API size_t dls_coll_size(int32_t size, size_t bytes) { /* a view may have but two members */
    return dlsi_coll_members(size) + bytes / (size > 1 ? 2u : 1u) + 8 + DLS_ALIGN;
}
DLS_API dls_status dls_coll_init(dls_coll *coll, dls_peer *peer, int32_t rank, int32_t size,
                                 void *mem, size_t bytes) {
    dlsi_layout l = dlsi_layout_at(mem);
    int32_t i;
    memset(coll, 0, sizeof *coll);
    if (rank < 0 || rank >= size || (size > 1 && peer == NULL)) return DLS_E_ARG;
    if (mem == NULL || bytes < DLS_ALIGN + dlsi_coll_members(size)) return DLS_E_MEMORY;
    coll->member = (int32_t *)(void *)l.base;
    l.base += dlsi_coll_members(size);
    coll->room = size;
    for (i = 0; i < size; i++) coll->member[i] = i;
    coll->peer = peer;
    coll->rank = rank;
    coll->size = size;
    coll->staging = l.base;
    coll->staging_bytes = bytes - (size_t)(l.base - (unsigned char *)mem);
    coll->send = coll->recv = -1;
    return DLS_OK;
}
DLSI_FN void dlsi_coll_drop(dls_coll *c) {
    if (c->data != NULL && !c->sent && c->send >= 0) dls_peer_op_drop(c->peer, c->send);
    if (c->data != NULL && !c->received && c->recv >= 0) dls_peer_op_drop(c->peer, c->recv);
    c->send = c->recv = -1;
}
DLS_API dls_status dls_coll_view(dls_coll *coll, const dls_view *view) {
    int32_t i;
    if (view->mine < 0) return DLS_E_STATE;
    if (view->count > coll->room) return DLS_E_LIMIT;
    for (i = 0; i < view->count; i++)
        if (view->rank[i] < 0) return DLS_E_NOT_FOUND;
    dlsi_coll_drop(coll);
    coll->data = NULL;
    coll->view = view->number;
    coll->sequence = 0;
    coll->rank = view->mine;
    coll->size = view->count;
    memcpy(coll->member, view->rank, (size_t)view->count * sizeof *coll->member);
    return DLS_OK;
}
/* Members I have a session with, myself included. */
DLSI_FN int32_t dlsi_coll_up(const dls_coll *c) {
    int32_t i, n = 0;
    for (i = 0; i < c->size; i++) n += dls_peer_is_up(c->peer, c->member[i]) ? 1 : 0;
    return n;
}
DLSI_FN bool dlsi_coll_any_lost(const dls_coll *c) {
    int32_t i;
    for (i = 0; i < c->size; i++)
        if (!dls_peer_is_up(c->peer, c->member[i]) && dls_peer_why(c->peer, c->member[i]) != DLS_OK)
            return true;
    return false;
}
/* Chunk c, of which index may lie outside 0..size-1. */
DLSI_FN unsigned char *dlsi_coll_chunk(const dls_coll *c, int32_t chunk, size_t *bytes) {
    const size_t n = (size_t)c->size, width = dlsi_reduce_bytes(c->reduce);
    const size_t i = (size_t)((chunk % c->size + c->size) % c->size);
    const size_t first = c->count / n * i + dlsi_min_size(i, c->count % n);
    *bytes = (c->count / n + (i < c->count % n ? 1 : 0)) * width;
    return c->data + first * width;
}
DLSI_FN void dlsi_coll_step(dls_coll *c) {
    const int32_t half = c->size - 1, s = c->step < half ? c->step : c->step - half;
    const bool gather = c->step >= half;
    const int32_t out = gather ? c->rank + 1 - s : c->rank - s, in = out - 1;
    const uint32_t tag = (c->view & 0xFFu) << 23 | (c->sequence & 0xFFFu) << 11 | (uint32_t)c->step;
    size_t out_bytes, in_bytes;
    unsigned char *from = dlsi_coll_chunk(c, out, &out_bytes),
                  *to = dlsi_coll_chunk(c, in, &in_bytes);
    c->recv = dls_peer_recv(c->peer, c->member[(c->rank + c->size - 1) % c->size], tag,
                            gather ? to : c->staging, in_bytes);
    c->send = dls_peer_send(c->peer, c->member[(c->rank + 1) % c->size], tag, from, out_bytes);
    c->sent = c->received = false;
    if (c->recv < 0 || c->send < 0) c->status = DLS_E_LIMIT;
}
DLSI_FN void dlsi_coll_add(const dls_coll *c) {
    size_t bytes, i;
    unsigned char *to = dlsi_coll_chunk(c, c->rank - c->step - 1, &bytes);
    if (c->reduce == DLS_REDUCE_MAX_U8) {
        for (i = 0; i < bytes; i++)
            if (c->staging[i] > to[i]) to[i] = c->staging[i];
        return;
    }
    for (i = 0; i < bytes; i += 4) {
        uint32_t a, b;
        memcpy(&a, to + i, 4);
        memcpy(&b, c->staging + i, 4);
        a = c->swapped ? dlsi_swap32(dlsi_swap32(a) + dlsi_swap32(b)) : a + b;
        memcpy(to + i, &a, 4);
    }
}
/* Integers travel little-endian: a big-endian device turns its array before and after. */
DLSI_FN void dlsi_coll_turn(const dls_coll *c) {
    size_t i;
    for (i = 0; c->swapped && i < c->count; i++) {
        uint32_t a;
        memcpy(&a, c->data + 4 * i, 4);
        a = dlsi_swap32(a);
        memcpy(c->data + 4 * i, &a, 4);
    }
}
DLS_API dls_status dls_coll_allreduce(dls_coll *coll, void *data, size_t count, dls_reduce reduce) {
    const size_t width = dlsi_reduce_bytes(reduce);
    if (data == NULL && count > 0) return DLS_E_ARG;
    if (coll->data != NULL) return DLS_E_STATE;
    if (coll->size > 1 && count / (size_t)coll->size + 1 > coll->staging_bytes / width)
        return DLS_E_MEMORY;
    if (coll->size > 1 && dlsi_coll_up(coll) < coll->size) return DLS_E_PEER;
    coll->data = (unsigned char *)data;
    coll->count = count;
    coll->reduce = reduce;
    coll->step = 0;
    coll->status = DLS_OK;
    coll->sequence++;
    coll->swapped = reduce == DLS_REDUCE_SUM_I32 && coll->size > 1 && !dlsi_little_endian();
    dlsi_coll_turn(coll);
    if (coll->size > 1) dlsi_coll_step(coll);
    return DLS_OK;
}
DLS_API bool dls_coll_poll(dls_coll *coll, dls_status *status) {
    dls_status st = DLS_OK;
    /* a loss stops those beside the lost one; the others would wait for them */
    if (coll->status == DLS_OK && coll->size > 1 && coll->step < 2 * (coll->size - 1) &&
        dlsi_coll_any_lost(coll))
        coll->status = DLS_E_PEER;
    while (coll->status == DLS_OK && coll->size > 1 && coll->step < 2 * (coll->size - 1)) {
        if (!coll->sent && dls_peer_op_done(coll->peer, coll->send, &st)) {
            coll->sent = true;
            if (st != DLS_OK) coll->status = st;
        }
        if (!coll->received && dls_peer_op_done(coll->peer, coll->recv, &st)) {
            coll->received = true;
            if (st != DLS_OK) coll->status = st;
        }
        if (coll->status != DLS_OK) break;
        if (!coll->sent || !coll->received) return false;
        if (coll->step < coll->size - 1) dlsi_coll_add(coll);
        coll->step++;
        if (coll->step < 2 * (coll->size - 1)) dlsi_coll_step(coll);
    }
    if (coll->status != DLS_OK) { /* what is left of the step is no use to anybody */
        dlsi_coll_drop(coll);
        if (coll->view > 0) dls_peer_view_again(coll->peer);
    }
    *status = coll->status;
    dlsi_coll_turn(coll);
    coll->data = NULL;
    return true;
}

/* ------------------------------------------------------------------------------------------------
   >>job.impl  deps: config base tensor par net train wire peer coll job.api       */

DLS_API void dls_job_shards(const int32_t *shares, int32_t size, int32_t shards, int32_t rank,
                            int32_t *first, int32_t *count) {
    int64_t total = 0, before = 0, own = 0;
    int32_t i;
    for (i = 0; i < size; i++) {
        const int64_t s = shares != NULL ? dlsi_max_i32(shares[i], 0) : 1;
        if (i < rank) before += s;
        if (i == rank) own = s;
        total += s;
    }
    if (total == 0) { /* nobody has a share: equal ones */
        before = rank;
        own = 1;
        total = size;
    }
    *first = (int32_t)(before * shards / total);
    *count = (int32_t)((before + own) * shards / total) - *first;
}

#if DLS_ENABLE_TRAIN
enum { DLSI_JOB_IDLE = 0, DLSI_JOB_READY, DLSI_JOB_SUMS, DLSI_JOB_SCALES };
/* This peer's shards. The engine is left alone: it may be in use by another thread. */
DLSI_FN dls_status dlsi_job_compute(dls_job *job) {
    dls_exact e;
    int32_t first, count, s;
    dls_status st = dls_train_begin(job->train, job->n);
    job->phase = DLSI_JOB_IDLE;
    if (st != DLS_OK) return st;
    dls_train_exact(job->train, &e);
    dls_job_shards(job->shares, job->coll->size, e.shards, job->coll->rank, &first, &count);
    for (s = first; s < first + count && st == DLS_OK; s++)
        st = dls_train_shard_data(job->train, job->data, job->augment, job->index, s);
    if (st != DLS_OK) return st;
    job->samples +=
        (int64_t)job->n * (first + count) / e.shards - (int64_t)job->n * first / e.shards;
    job->phase = DLSI_JOB_READY;
    return DLS_OK;
}
DLS_API dls_status dls_job_begin(dls_job *job, const dls_data *data, const dls_augment *augment,
                                 const int32_t *index, int32_t n) {
    job->data = data;
    job->augment = augment;
    job->index = index;
    job->n = n;
    return dlsi_job_compute(job);
}
DLS_API bool dls_job_poll(dls_job *job, dls_status *status, dls_step_stats *stats) {
    dls_exact e;
    bool redo = false;
    dls_train_exact(job->train, &e);
    while (job->phase != DLSI_JOB_IDLE) {
        if (job->phase != DLSI_JOB_READY && !dls_coll_poll(job->coll, status)) return false;
        if (job->phase == DLSI_JOB_READY) {
            job->phase = DLSI_JOB_SUMS;
            *status = dls_coll_allreduce(job->coll, e.sums, e.sums_count, DLS_REDUCE_SUM_I32);
        } else if (*status == DLS_OK && job->phase == DLSI_JOB_SUMS) {
            job->phase = DLSI_JOB_SCALES;
            e.scales[e.scales_count] = job->stop; /* the trainer keeps a byte behind them for us */
            *status =
                dls_coll_allreduce(job->coll, e.scales, e.scales_count + 1, DLS_REDUCE_MAX_U8);
        } else if (*status == DLS_OK) {
            job->stop = e.scales[e.scales_count] != 0;
            *status = dls_train_commit(job->train, &redo, stats);
            job->phase = DLSI_JOB_IDLE;
            if (*status == DLS_OK && redo) *status = dlsi_job_compute(job);
        }
        if (*status != DLS_OK) job->phase = DLSI_JOB_IDLE;
    }
    return true;
}
#endif

DLS_API dls_status dls_job_cut(dls_net *net, int32_t stages, const int32_t *shares, int32_t *at) {
    const int32_t nodes = dls_net_nodes(net);
    const double all =
        dls_net_macs(net, 0, nodes) + (double)nodes; /* a node costs something by itself */
    double share = 0.0, total = 0.0;
    dls_val crossing[16];
    int32_t s, i;
    if (stages < 1 || nodes < 1) return DLS_E_ARG;
    for (s = 0; s < stages; s++) total += shares != NULL ? (double)dlsi_max_i32(shares[s], 0) : 1.0;
    at[0] = 0;
    at[stages] = nodes;
    for (s = 1; s < stages; s++) { /* the legal place nearest to the wanted part of the work */
        double best = 1e300;
        share += shares != NULL ? (double)dlsi_max_i32(shares[s - 1], 0) : 1.0;
        at[s] = -1;
        for (i = at[s - 1] + 1; i <= nodes - (stages - s); i++) {
            double off =
                dls_net_macs(net, 0, i) + (double)i - all * share / (total > 0 ? total : 1.0);
            if (off < 0) off = -off;
            if (off >= best || dls_net_cut(net, i, crossing, 16) < 0) continue;
            best = off;
            at[s] = i;
        }
        if (at[s] < 0) return DLS_E_ARG;
    }
    return DLS_OK;
}

/* ------------------------------------------------------------------------------------------------
   >>link.impl  deps: config base port crypt wire chan peer link.api  */

DLSI_FN size_t dlsi_loop_move(dls_peer *a, int32_t port_a, dls_peer *b, int32_t port_b,
                              uint64_t now) {
    size_t moved = 0, size;
    for (;;) {
        const void *from = dls_peer_tx_span(a, port_a, &size, now);
        if (size == 0 || dls_peer_port_done(b, port_b)) return moved;
        (void)dls_peer_rx(b, port_b, from, size, now);
        dls_peer_tx_done(a, port_a, size, now);
        moved += size;
    }
}
DLS_API size_t dls_loop_pump(dls_peer *a, int32_t port_a, dls_peer *b, int32_t port_b,
                             uint64_t now) {
    size_t moved, total = 0;
    do {
        moved =
            dlsi_loop_move(a, port_a, b, port_b, now) + dlsi_loop_move(b, port_b, a, port_a, now);
        total += moved;
    } while (moved > 0);
    return total;
}

/* ---- Simulator ---- */
#if DLS_ENABLE_HEAP

enum { DLSI_SIM_WAKE = 0, DLSI_SIM_PACKET, DLSI_SIM_BYTES, DLSI_SIM_SENT };
#define DLSI_SIM_SERIAL_BYTES 64 /* that move along a serial line at once */
typedef struct dlsi_sim_event {
    uint64_t at, order;
    int32_t kind, from, to, bytes;
    uint32_t boot; /* of the receiver, when it was sent: WAKE and SENT are for that one */
    unsigned char *data;
} dlsi_sim_event;
typedef struct dlsi_sim_peer {
    dls_peer *engine; /* NULL: down */
    void *mem, *port_mem[64];
    unsigned char *stored;
    size_t stored_bytes;
    uint64_t wake, slow;
    int64_t offset;
    int32_t boots, udp, line[64]; /* ports; line[k]: serial port towards k, -1: none */
    bool sending[64];             /* bytes are moving towards k */
} dlsi_sim_peer;
struct dls_sim {
    dls_sim_desc desc;
    dlsi_sim_peer *peer;
    dlsi_sim_event *heap;
    int32_t events, room;
    uint64_t now, order, trace, carried;
    dls_rng rng;
    bool cut[64][64];
};

DLSI_FN uint32_t dlsi_sim_below(dls_sim *s, uint32_t n) {
    return n == 0 ? 0 : dls_rng_u32(&s->rng) % n;
}
DLSI_FN bool dlsi_sim_chance(dls_sim *s, int32_t ppm) {
    return ppm > 0 && dlsi_sim_below(s, 1000000) < (uint32_t)ppm;
}
DLSI_FN bool dlsi_sim_before(const dlsi_sim_event *a, const dlsi_sim_event *b) {
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}
/* Owns data, also when it fails. */
DLSI_FN void dlsi_sim_push(dls_sim *s, dlsi_sim_event e) {
    int32_t i = s->events;
    if (i == s->room) {
        const int32_t room = s->room * 2 + 64;
        dlsi_sim_event *more = (dlsi_sim_event *)DLS_MALLOC((size_t)room * sizeof(dlsi_sim_event));
        if (more == NULL) {
            if (e.data != NULL) DLS_FREE(e.data);
            return;
        }
        if (s->heap != NULL) {
            memcpy(more, s->heap, (size_t)i * sizeof *more);
            DLS_FREE(s->heap);
        }
        s->heap = more;
        s->room = room;
    }
    e.order = s->order++;
    s->events++;
    while (i > 0 && dlsi_sim_before(&e, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = e;
}
DLSI_FN dlsi_sim_event dlsi_sim_pop(dls_sim *s) {
    const dlsi_sim_event first = s->heap[0], last = s->heap[--s->events];
    int32_t i = 0, child;
    while ((child = 2 * i + 1) < s->events) {
        if (child + 1 < s->events && dlsi_sim_before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!dlsi_sim_before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return first;
}
DLSI_FN void dlsi_sim_mix(dls_sim *s, uint64_t a, uint64_t b) {
    s->trace = dlsi_hash_word(dlsi_hash_word(s->trace, a), b);
}
DLSI_FN void dlsi_sim_event_at(dls_sim *s, uint64_t at, int32_t kind, int32_t from, int32_t to,
                               const unsigned char *data, size_t bytes) {
    dlsi_sim_event e;
    DLSI_ZERO(e);
    e.at = at;
    e.kind = kind;
    e.from = from;
    e.to = to;
    e.bytes = (int32_t)bytes;
    e.boot = (uint32_t)s->peer[to].boots;
    if (data != NULL) {
        e.data = (unsigned char *)DLS_MALLOC(bytes);
        if (e.data == NULL) return;
        memcpy(e.data, data, bytes);
    }
    dlsi_sim_push(s, e);
}

/* What the air does to a datagram. */
DLSI_FN void dlsi_sim_carry(dls_sim *s, int32_t from, int32_t to, unsigned char *data, size_t n) {
    int32_t copies = dlsi_sim_chance(s, s->desc.duplicate) ? 2 : 1;
    for (; copies > 0; copies--) {
        uint64_t at = s->now + s->desc.delay_us + s->peer[to].slow;
        if (s->desc.jitter_us > 0) at += dlsi_sim_below(s, (uint32_t)s->desc.jitter_us + 1);
        if (dlsi_sim_chance(s, s->desc.reorder))
            at += s->desc.delay_us * (1 + dlsi_sim_below(s, 8));
        if (s->cut[from][to] || dlsi_sim_chance(s, s->desc.drop)) continue;
        if (dlsi_sim_chance(s, s->desc.corrupt))
            data[dlsi_sim_below(s, (uint32_t)n)] ^= (unsigned char)(1u << dlsi_sim_below(s, 8));
        dlsi_sim_event_at(s, at, DLSI_SIM_PACKET, from, to, data, n);
    }
}
/* Bytes that wait for the serial line from i to k set out, if the line is free. */
DLSI_FN void dlsi_sim_line(dls_sim *s, int32_t i, int32_t k) {
    dlsi_sim_peer *p = &s->peer[i];
    unsigned char part[DLSI_SIM_SERIAL_BYTES * 2];
    const unsigned char *from;
    size_t size, n = 0, j;
    uint64_t time;
    if (p->engine == NULL || p->line[k] < 0 || p->sending[k]) return;
    from =
        (const unsigned char *)dls_peer_tx_span(p->engine, p->line[k], &size, dls_sim_clock(s, i));
    if (size == 0) return;
    size = dlsi_min_size(size, DLSI_SIM_SERIAL_BYTES);
    for (j = 0; j < size; j++) {
        part[n++] = from[j];
        if (!dlsi_sim_chance(s, s->desc.noise)) continue;
        switch (dlsi_sim_below(s, 3)) {
        case 0: part[n - 1] ^= (unsigned char)(1u << dlsi_sim_below(s, 8)); break;
        case 1: n--; break;
        default: part[n++] = (unsigned char)dlsi_sim_below(s, 256);
        }
    }
    dls_peer_tx_done(p->engine, p->line[k], size, dls_sim_clock(s, i));
    time = size * 10000000u / (uint64_t)s->desc.baud + 1;
    p->sending[k] = true;
    dlsi_sim_event_at(s, s->now + time, DLSI_SIM_SENT, k, i, NULL, 0);
    if (n > 0 && !s->cut[i][k])
        dlsi_sim_event_at(s, s->now + time + s->peer[k].slow, DLSI_SIM_BYTES, i, k, part, n);
}
/* Something happened at peer i: the application's turn, then what it sends, then when it wants to
   be woken. */
DLSI_FN void dlsi_sim_turn(dls_sim *s, int32_t i) {
    dlsi_sim_peer *p = &s->peer[i];
    unsigned char packet[2048];
    dls_addr to;
    uint64_t deadline, now;
    int32_t k;
    size_t n;
    if (p->engine == NULL) return;
    dls_peer_tick(p->engine, dls_sim_clock(s, i));
    if (s->desc.step != NULL) s->desc.step(s->desc.user, s, i);
    if (p->engine == NULL) return;
    now = dls_sim_clock(s, i);
    while (p->udp >= 0 && (n = dls_peer_tx_packet(p->engine, p->udp, &to, packet, now)) > 0)
        if (to.size == 1 && to.bytes[0] < s->desc.peers)
            dlsi_sim_carry(s, i, to.bytes[0], packet, n);
    for (k = 0; k < s->desc.peers; k++) dlsi_sim_line(s, i, k);
    deadline = dls_peer_deadline(p->engine);
    if (deadline == UINT64_MAX) return;
    deadline = deadline > now ? s->now + (deadline - now) : s->now + 50;
    if (p->wake > s->now && p->wake <= deadline) return;
    p->wake = deadline + p->slow;
    dlsi_sim_event_at(s, p->wake, DLSI_SIM_WAKE, i, i, NULL, 0);
}
DLSI_FN void dlsi_sim_handle(dls_sim *s, dlsi_sim_event *e) {
    dlsi_sim_peer *p = &s->peer[e->to];
    const bool same = e->boot == (uint32_t)p->boots;
    dls_addr from;
    if (p->engine == NULL || (!same && e->kind != DLSI_SIM_PACKET)) return;
    if (e->kind == DLSI_SIM_WAKE && p->wake != e->at) return; /* an earlier one took its place */
    dlsi_sim_mix(s, e->at,
                 (uint64_t)e->kind << 48 | (uint64_t)e->from << 40 | (uint64_t)e->to << 32 |
                     (uint32_t)e->bytes);
    if (e->kind == DLSI_SIM_WAKE) p->wake = 0;
    if (e->kind == DLSI_SIM_SENT) p->sending[e->from] = false;
    if (e->kind == DLSI_SIM_PACKET && p->udp >= 0) {
        DLSI_ZERO(from);
        from.size = 1;
        from.bytes[0] = (uint8_t)e->from;
        s->carried++;
        dls_peer_rx_packet(p->engine, p->udp, &from, e->data, (size_t)e->bytes,
                           dls_sim_clock(s, e->to));
    } else if (e->kind == DLSI_SIM_BYTES) {
        s->carried += (uint64_t)e->bytes;
        (void)dls_peer_rx(p->engine, p->line[e->from], e->data, (size_t)e->bytes,
                          dls_sim_clock(s, e->to));
    }
    dlsi_sim_turn(s, e->to);
}
DLS_API void dls_sim_run(dls_sim *sim, uint64_t until) {
    while (sim->events > 0 && sim->heap[0].at <= until) {
        dlsi_sim_event e = dlsi_sim_pop(sim);
        sim->now = e.at > sim->now ? e.at : sim->now;
        dlsi_sim_handle(sim, &e);
        if (e.data != NULL) DLS_FREE(e.data);
    }
    if (until > sim->now) sim->now = until;
}
DLS_API uint64_t dls_sim_now(const dls_sim *sim) { return sim->now; }
DLS_API dls_peer *dls_sim_peer(dls_sim *sim, int32_t i) { return sim->peer[i].engine; }
DLS_API uint64_t dls_sim_clock(const dls_sim *sim, int32_t i) {
    return 1000000000u + sim->now + (uint64_t)sim->peer[i].offset;
}
DLS_API int32_t dls_sim_boots(const dls_sim *sim, int32_t i) { return sim->peer[i].boots; }

DLSI_FN bool dlsi_sim_store(void *user, const void *state, size_t bytes) {
    dlsi_sim_peer *p = (dlsi_sim_peer *)user;
    unsigned char *copy = (unsigned char *)DLS_MALLOC(bytes);
    if (copy == NULL) return false;
    memcpy(copy, state, bytes);
    if (p->stored != NULL) DLS_FREE(p->stored);
    p->stored = copy;
    p->stored_bytes = bytes;
    return true;
}
DLSI_FN bool dlsi_sim_serial(const dls_sim *s, int32_t i, int32_t k) {
    return s->desc.serial_to != NULL && (s->desc.serial_to[i] == k || s->desc.serial_to[k] == i);
}
/* The ports of a peer that starts, and where it may find the others. */
DLSI_FN bool dlsi_sim_ports(dls_sim *s, int32_t i) {
    dlsi_sim_peer *p = &s->peer[i];
    const bool at_line = s->desc.serial_to != NULL && s->desc.serial_to[i] >= 0;
    dls_port_desc d;
    int32_t k;
    DLSI_ZERO(d);
    d.plain = true;
    d.mtu = dlsi_or(s->desc.mtu, 1200);
    d.kind = DLS_PORT_PACKET;
    p->udp = at_line ? -1 : dls_peer_port_open(p->engine, &d, dls_sim_clock(s, i));
    for (k = 0; k < s->desc.peers; k++) {
        dls_addr to;
        p->line[k] = -1;
        p->sending[k] = false;
        if (k != i && dlsi_sim_serial(s, i, k)) {
            d.kind = DLS_PORT_SERIAL;
            d.mtu = dlsi_or(s->desc.mtu, 256);
            d.call = at_line;
            d.rank = k;
            d.bytes = DLS_PORT_BYTES(d.kind, d.mtu);
            if (p->port_mem[k] == NULL) p->port_mem[k] = DLS_MALLOC(d.bytes);
            d.mem = p->port_mem[k];
            p->line[k] =
                d.mem != NULL ? dls_peer_port_open(p->engine, &d, dls_sim_clock(s, i)) : -1;
            if (p->line[k] < 0) return false;
        } else if (k != i && p->udp >= 0 &&
                   (s->desc.serial_to == NULL || s->desc.serial_to[k] < 0)) {
            DLSI_ZERO(to);
            to.size = 1;
            to.bytes[0] = (uint8_t)k;
            dls_peer_call(p->engine, k, p->udp, &to, dls_sim_clock(s, i));
        }
    }
    return true;
}
DLS_API bool dls_sim_start(dls_sim *sim, int32_t i) {
    dlsi_sim_peer *p = &sim->peer[i];
    dls_peer_desc d = sim->desc.peer[i];
    const uint32_t boot = d.boot;
    if (p->engine != NULL) return true;
    p->boots++;
    d.boot = boot + (uint32_t)p->boots;
    d.ports_max = sim->desc.peers + 1;
    if (d.store != NULL) {
        d.store = dlsi_sim_store;
        d.store_user = p;
        d.stored = p->stored;
        d.stored_bytes = p->stored_bytes;
    }
    if (p->mem == NULL) p->mem = DLS_MALLOC(dls_peer_size(&d));
    if (p->mem == NULL || dls_peer_init(&p->engine, &d, p->mem, dls_peer_size(&d)) != DLS_OK ||
        !dlsi_sim_ports(sim, i)) {
        p->engine = NULL;
        return false;
    }
    dlsi_sim_mix(sim, sim->now, 0x100u + (uint64_t)i);
    p->wake = sim->now + p->slow + 1;
    dlsi_sim_event_at(sim, p->wake, DLSI_SIM_WAKE, i, i, NULL, 0);
    return true;
}
DLS_API void dls_sim_crash(dls_sim *sim, int32_t i) {
    sim->peer[i].engine = NULL;
    dlsi_sim_mix(sim, sim->now, 0x200u + (uint64_t)i);
}
DLS_API dls_sim *dls_sim_create(const dls_sim_desc *desc) {
    dls_sim *s;
    int32_t i;
    if (desc->peers < 1 || desc->peers > 64) return NULL;
    s = (dls_sim *)DLS_MALLOC(sizeof *s);
    if (s == NULL) return NULL;
    memset(s, 0, sizeof *s);
    s->desc = *desc;
    s->desc.baud = dlsi_or(desc->baud, 921600);
    if (s->desc.delay_us == 0) s->desc.delay_us = 500;
    s->rng.seed = desc->seed;
    s->peer = (dlsi_sim_peer *)DLS_MALLOC((size_t)desc->peers * sizeof *s->peer);
    if (s->peer == NULL) {
        DLS_FREE(s);
        return NULL;
    }
    memset(s->peer, 0, (size_t)desc->peers * sizeof *s->peer);
    for (i = 0; i < desc->peers; i++) {
        if (dls_sim_start(s, i)) continue;
        dls_sim_destroy(s);
        return NULL;
    }
    return s;
}
DLS_API void dls_sim_destroy(dls_sim *sim) {
    int32_t i, k;
    if (sim == NULL) return;
    for (i = 0; i < sim->events; i++)
        if (sim->heap[i].data != NULL) DLS_FREE(sim->heap[i].data);
    for (i = 0; i < sim->desc.peers; i++) {
        if (sim->peer[i].mem != NULL) DLS_FREE(sim->peer[i].mem);
        if (sim->peer[i].stored != NULL) DLS_FREE(sim->peer[i].stored);
        for (k = 0; k < 64; k++)
            if (sim->peer[i].port_mem[k] != NULL) DLS_FREE(sim->peer[i].port_mem[k]);
    }
    if (sim->heap != NULL) DLS_FREE(sim->heap);
    DLS_FREE(sim->peer);
    DLS_FREE(sim);
}
DLS_API void dls_sim_rates(dls_sim *sim, int32_t drop, int32_t duplicate, int32_t reorder,
                           int32_t corrupt, int32_t noise) {
    sim->desc.drop = drop;
    sim->desc.duplicate = duplicate;
    sim->desc.reorder = reorder;
    sim->desc.corrupt = corrupt;
    sim->desc.noise = noise;
}
DLS_API void dls_sim_cut(dls_sim *sim, int32_t a, int32_t b, bool cut) { sim->cut[a][b] = cut; }
DLS_API void dls_sim_slow(dls_sim *sim, int32_t i, uint64_t us) { sim->peer[i].slow = us; }
DLS_API void dls_sim_jump(dls_sim *sim, int32_t i, int64_t us) {
    sim->peer[i].offset += us;
    if (sim->peer[i].engine != NULL) dlsi_sim_turn(sim, i);
}
DLS_API void dls_sim_note(dls_sim *sim, uint64_t number) { dlsi_sim_mix(sim, sim->now, number); }
DLS_API uint64_t dls_sim_trace(const dls_sim *sim) { return sim->trace; }
DLS_API uint64_t dls_sim_carried(const dls_sim *sim) { return sim->carried; }
#endif

/* ---- Discovery ---- */

#define DLSI_FIND_PLACES 4    /* addresses kept of a device */
#define DLSI_FIND_STRANGERS 8 /* ids kept that are not in the roster */
#define DLSI_FIND_SOON 100000u
#define DLSI_FIND_SELDOM 5000000u
#define DLSI_FIND_TRY 2500000u     /* how long one address is tried */
#define DLSI_FIND_RECENT 30000000u /* two runs of an id in that time are two devices */
#define DLSI_FIND_TOLD 60000000u

/* What was heard of an id. note: the latest trouble with it, from where and when. */
typedef struct dlsi_heard {
    uint64_t number, at, called, note_at, told_at;
    uint32_t id, run, epoch;
    dls_addr place[DLSI_FIND_PLACES], note_from;
    uint8_t places, turn, note, told;
    bool any, has_note, tell;
} dlsi_heard;
struct dls_find {
    dls_find_desc desc;
    dlsi_heard *heard; /* devices_max by rank, then the strangers */
    int32_t devices, ways;
    uint32_t run, sequence;
    uint64_t next, interval;
};

DLSI_FN dls_find *dlsi_find_layout(dlsi_layout *l, const dls_find_desc *d) {
    const int32_t devices = d->peer->desc.devices_max;
    const size_t bytes = (size_t)(devices + DLSI_FIND_STRANGERS) * sizeof(dlsi_heard);
    dls_find *f = (dls_find *)dlsi_layout_take(l, sizeof *f);
    dlsi_heard *heard = (dlsi_heard *)dlsi_layout_take(l, bytes);
    if (f == NULL) return NULL;
    memset(f, 0, sizeof *f);
    memset(heard, 0, bytes);
    f->desc = *d;
    f->heard = heard;
    f->devices = devices;
    f->ways = -1;
    return f;
}
DLS_API size_t dls_find_size(const dls_find_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    (void)dlsi_find_layout(&l, desc);
    return dlsi_layout_total(&l);
}
DLS_API dls_status dls_find_init(dls_find **find, const dls_find_desc *desc, void *mem,
                                 size_t bytes) {
    dlsi_layout l = dlsi_layout_at(mem);
    unsigned char run[4];
    dls_find *f;
    *find = NULL;
    if (desc->udp_port > 65535 || desc->port < 0) return DLS_E_ARG;
    if (desc->peer->desc.psk == NULL) return DLS_E_REFUSED;
    if (mem == NULL || bytes < dls_find_size(desc)) return DLS_E_MEMORY;
    if (dls_random(run, sizeof run) != DLS_OK) return DLS_E_IO;
    f = dlsi_find_layout(&l, desc);
    f->run = dlsi_load32(run);
    f->interval = DLSI_FIND_SOON;
    *find = f;
    return DLS_OK;
}
DLS_API size_t dls_find_write(dls_find *find, void *to, uint64_t now) {
    dls_peer *p = find->desc.peer;
    unsigned char *mac = (unsigned char *)to + DLS_ANNOUNCE_BYTES - 16;
    dls_announce a;
    if (find->next > now + 2 * DLSI_FIND_SELDOM) find->next = now; /* the clock jumped back */
    if (now < find->next || p->leaving) return 0;
    find->next = now + dlsi_peer_jitter(p, find->interval);
    find->interval = dlsi_min_u64(2 * find->interval, DLSI_FIND_SELDOM);
    DLSI_ZERO(a);
    a.group = p->group;
    a.id = p->member[p->me].device.id;
    a.boot = p->desc.boot;
    a.sequence = ++find->sequence;
    a.run = find->run;
    a.epoch = p->epoch;
    a.port = (uint16_t)find->desc.udp_port;
    dls_announce_write(&a, to);
    dls_announce_mac(mac, p->psk, to);
    return DLS_ANNOUNCE_BYTES;
}
DLS_API uint64_t dls_find_deadline(const dls_find *find) { return find->next; }

/* The entry of an id: its rank's, or a stranger's: the one heard of least recently gives way. */
DLSI_FN dlsi_heard *dlsi_find_entry(dls_find *f, uint32_t id) {
    const int32_t rank = dls_peer_rank_of(f->desc.peer, id);
    dlsi_heard *oldest = &f->heard[f->devices];
    int32_t i;
    if (rank >= 0) {
        f->heard[rank].id = id;
        return &f->heard[rank];
    }
    for (i = f->devices; i < f->devices + DLSI_FIND_STRANGERS; i++) {
        dlsi_heard *h = &f->heard[i];
        if (h->has_note && h->id == id) return h;
        if (!h->has_note || h->note_at < oldest->note_at) oldest = h;
    }
    memset(oldest, 0, sizeof *oldest);
    oldest->id = id;
    return oldest;
}
DLSI_FN dls_status dlsi_find_note(dls_find *f, const dls_announce *a, const dls_addr *from,
                                  dls_status what, uint64_t now) {
    dlsi_heard *h = dlsi_find_entry(f, a->id);
    h->has_note = true;
    h->note = (uint8_t)what;
    h->note_at = now;
    h->note_from = *from;
    if (what != DLS_E_AUTH) h->epoch = a->epoch;
    /* What anybody can make up is no news of a device that was heard rightly. */
    if (h->any && what != DLS_E_STATE && what != DLS_E_REFUSED) return what;
    if (h->told != (uint8_t)what || now - h->told_at > DLSI_FIND_TOLD || now < h->told_at)
        h->tell = true;
    return what;
}
DLS_API bool dls_find_next(dls_find *find, uint32_t *id, dls_status *what, uint64_t now) {
    int32_t i;
    for (i = 0; i < find->devices + DLSI_FIND_STRANGERS; i++) {
        dlsi_heard *h = &find->heard[i];
        if (!h->tell) continue;
        h->tell = false;
        h->told = h->note;
        h->told_at = now;
        *id = h->id;
        *what = (dls_status)h->note;
        return true;
    }
    return false;
}
/* Whether the mac is by the key that device must have. */
DLSI_FN bool dlsi_find_genuine(const dls_peer *p, int32_t rank, const void *packet) {
    unsigned char psk[32], mac[16];
    if (rank == p->me || rank < 0)
        memcpy(psk, p->psk, sizeof psk);
    else
        dlsi_peer_psk(p, rank, psk);
    dls_announce_mac(mac, psk, packet);
    dls_wipe(psk, sizeof psk);
    return dls_equal(mac, (const unsigned char *)packet + DLS_ANNOUNCE_BYTES - 16, sizeof mac);
}
/* Who spoke, after what can be told without state. */
DLSI_FN dls_status dlsi_find_judge(const dls_peer *p, const dls_announce *a, const void *packet,
                                   int32_t *rank) {
    *rank = dls_peer_rank_of(p, a->id);
    if (a->group != p->group) return DLS_E_MISMATCH;
    if (*rank != p->me && dlsi_peer_small(p, p->me)) return DLS_E_UNSUPPORTED;
    if (!dlsi_find_genuine(p, *rank, packet)) return DLS_E_AUTH;
    if (*rank < 0) return DLS_E_NOT_FOUND;
    return (p->member[*rank].device.flags & DLS_DEVICE_REVOKED) != 0 ? DLS_E_REFUSED : DLS_OK;
}
/* Where packets of the sender of an announcement are taken. */
DLSI_FN dls_addr dlsi_find_place(const dls_addr *from, uint32_t port) {
    dls_addr a = *from;
    const int at = from->size == 6 ? 4 : from->size >= 18 ? 16 : -1;
    if (at < 0) return a;
    a.bytes[at] = (uint8_t)(port >> 8 & 255u);
    a.bytes[at + 1] = (uint8_t)(port & 255u);
    return a;
}
DLSI_FN bool dlsi_addr_same(const dls_addr *a, const dls_addr *b) {
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}
DLSI_FN void dlsi_find_add(dlsi_heard *h, const dls_addr *place) {
    int32_t i;
    for (i = 0; i < h->places; i++)
        if (dlsi_addr_same(&h->place[i], place)) return;
    if (h->places == DLSI_FIND_PLACES) {
        memmove(h->place, h->place + 1, sizeof h->place - sizeof h->place[0]);
        h->places--;
    }
    h->place[h->places++] = *place;
}
/* Calls a device that is not up; each of its addresses for a while. */
DLSI_FN void dlsi_find_call(dls_find *f, int32_t rank, uint64_t now) {
    dlsi_heard *h = &f->heard[rank];
    if (dls_peer_is_up(f->desc.peer, rank) || h->places == 0) return;
    if (h->called != 0 && now >= h->called && now - h->called < DLSI_FIND_TRY) return;
    if (h->called != 0) h->turn++;
    h->called = now;
    dls_peer_call(f->desc.peer, rank, f->desc.port, &h->place[h->turn % h->places], now);
}
/* A genuine announcement of a device in the roster: is it news? */
DLSI_FN dls_status dlsi_find_take(dls_find *f, int32_t rank, const dls_announce *a,
                                  const dls_addr *from, uint64_t now) {
    const uint64_t number = (uint64_t)a->boot << 32 | a->sequence;
    const dls_addr place = dlsi_find_place(from, a->port);
    dlsi_heard *h = dlsi_find_entry(f, a->id);
    const bool recent = h->any && now >= h->at && now - h->at < DLSI_FIND_RECENT;
    const bool other = h->any && a->run != h->run;
    if (rank == f->desc.peer->me) /* my own echo, or another me */
        return a->run == f->run ? DLS_OK : dlsi_find_note(f, a, from, DLS_E_STATE, now);
    if (h->any && number <= h->number) {
        if (other) return recent ? dlsi_find_note(f, a, from, DLS_E_STATE, now) : DLS_E_STATE;
        /* the same one on another path, but not one recorded and played back later */
        if (number != h->number || !recent || now - h->at > 1000000u) return DLS_E_STATE;
    } else {
        /* one boot count, two runs: a key file that was copied */
        if (other && (uint32_t)(h->number >> 32) == a->boot && recent)
            (void)dlsi_find_note(f, a, from, DLS_E_STATE, now);
        if (other) h->places = h->turn = 0;
        h->any = true;
        h->number = number;
        h->run = a->run;
        h->epoch = a->epoch;
        h->at = now;
    }
    dlsi_find_add(h, &place);
    dlsi_find_call(f, rank, now);
    return DLS_OK;
}
DLS_API dls_status dls_find_read(dls_find *find, const dls_addr *from, const void *bytes, size_t n,
                                 uint64_t now) {
    dls_announce a;
    int32_t rank = -1;
    dls_status st;
    DLSI_ZERO(a);
    st = dls_announce_read(&a, bytes, n);
    if (st == DLS_OK) st = dlsi_find_judge(find->desc.peer, &a, bytes, &rank);
    if (st == DLS_E_FORMAT || st == DLS_E_UNSUPPORTED) return st;
    if (st != DLS_OK) return dlsi_find_note(find, &a, from, st, now);
    return dlsi_find_take(find, rank, &a, from, now);
}

DLSI_FN void dlsi_text_addr(dlsi_text *t, const dls_addr *a) {
    int i;
    for (i = 0; a->size == 6 && i < 4; i++) {
        if (i > 0) dlsi_text_str(t, ".");
        dlsi_text_int(t, a->bytes[i]);
    }
    for (i = 0; a->size >= 18 && i < 16; i++) {
        const char digit[3] = {"0123456789abcdef"[a->bytes[i] >> 4],
                               "0123456789abcdef"[a->bytes[i] & 15], '\0'};
        dlsi_text_str(t, i == 0 ? "[" : i % 2 == 0 ? ":" : "");
        dlsi_text_str(t, digit);
    }
    if (a->size >= 19 && a->bytes[18] != 0) {
        dlsi_text_str(t, "%");
        dlsi_text_int(t, a->bytes[18]);
    }
    if (a->size != 6 && a->size < 18) {
        dlsi_text_str(t, a->size == 0 ? "nowhere" : "a radio");
        return;
    }
    i = a->size == 6 ? 4 : 16;
    dlsi_text_str(t, a->size == 6 ? ":" : "]:");
    dlsi_text_int(t, a->bytes[i] << 8 | a->bytes[i + 1]);
}
/* Words for a trouble: before, and after the address it was heard from. */
DLSI_FN const char *dlsi_find_words(dls_status what, bool after) {
    switch (what) {
    case DLS_E_VERSION:
        return after ? DLSI_MSG(": update the older of the two programs")
                     : DLSI_MSG("speaks another version of the wire, heard from ");
    case DLS_E_MISMATCH:
        return after ? DLSI_MSG(": enrol it with the root key of this one")
                     : DLSI_MSG("an id like it is of another group, heard from ");
    case DLS_E_AUTH:
        return after ? DLSI_MSG(": its key file is of another root key, or somebody poses as it")
                     : DLSI_MSG("has another key, heard from ");
    case DLS_E_NOT_FOUND:
        return after ? DLSI_MSG(": give this device a newer roster")
                     : DLSI_MSG("belongs to the group but is not in my roster, heard from ");
    case DLS_E_REFUSED:
        return after ? DLSI_MSG(": enrol it anew under another name")
                     : DLSI_MSG("is revoked, but still announces itself from ");
    default:
        return after ? DLSI_MSG(": two devices with one key file? enrol the copy by itself")
                     : DLSI_MSG("another device announces this id, or an old announcement is "
                                "played back, from ");
    }
}
DLSI_FN void dlsi_find_say(const dls_find *f, const dlsi_heard *h, int32_t rank, dlsi_text *t,
                           uint64_t now) {
    const dls_peer *p = f->desc.peer;
    const bool up = rank >= 0 && dls_peer_is_up(p, rank);
    if (h != NULL && h->has_note && (!h->any || h->note == DLS_E_STATE)) {
        dlsi_text_str(t, dlsi_find_words((dls_status)h->note, false));
        dlsi_text_addr(t, &h->note_from);
        dlsi_text_str(t, dlsi_find_words((dls_status)h->note, true));
    } else if (up) {
        dlsi_text_str(t, rank == p->me ? DLSI_MSG("is this device") : DLSI_MSG("is up"));
    } else if (rank < 0) {
        dlsi_text_str(t, DLSI_MSG("is not in my roster, and was never heard"));
    } else if ((p->member[rank].device.flags & DLS_DEVICE_REVOKED) != 0) {
        dlsi_text_str(t, DLSI_MSG("is revoked"));
    } else if (h != NULL && h->any) {
        dlsi_text_str(t, DLSI_MSG("was heard "));
        dlsi_text_int(t, (int64_t)(now > h->at ? (now - h->at) / 1000000u : 0));
        dlsi_text_str(t, DLSI_MSG(" s ago, takes packets at "));
        dlsi_text_addr(t, &h->place[h->turn % h->places]);
        dlsi_text_str(t, DLSI_MSG(", but does not answer: is a firewall between us, is UDP open "
                                  "there?"));
    } else {
        dlsi_text_str(t, DLSI_MSG("was never heard: is it running, on this network? Where "
                                  "multicast and broadcast do not reach, give its address"));
        if (f->ways == 0) dlsi_text_str(t, DLSI_MSG(". No interface of this device is up"));
    }
}
DLS_API char *dls_find_explain(const dls_find *find, uint32_t id, char *buf, size_t bytes,
                               uint64_t now) {
    const int32_t rank = dls_peer_rank_of(find->desc.peer, id);
    const dlsi_heard *h = rank >= 0 ? &find->heard[rank] : NULL;
    dlsi_text t;
    int32_t i;
    t.buf = buf;
    t.used = 0;
    t.size = bytes;
    for (i = find->devices; rank < 0 && i < find->devices + DLSI_FIND_STRANGERS; i++)
        if (find->heard[i].has_note && find->heard[i].id == id) h = &find->heard[i];
    dlsi_text_str(&t, DLSI_MSG("device "));
    dlsi_text_int(&t, id);
    if (rank >= 0 && dls_peer_name(find->desc.peer, rank)[0] != '\0') {
        dlsi_text_str(&t, " (");
        dlsi_text_str(&t, dls_peer_name(find->desc.peer, rank));
        dlsi_text_str(&t, ")");
    }
    dlsi_text_str(&t, " ");
    dlsi_find_say(find, h, rank, &t, now);
    buf[t.used] = '\0';
    return buf;
}

#if DLS_ENABLE_SOCKETS
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

/* ---- Addresses ---- */

typedef union dlsi_sockaddr {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} dlsi_sockaddr;

DLSI_FN bool dlsi_addr_number(const char **text, uint32_t most, uint32_t *value) {
    const char *s = *text;
    uint32_t v = 0;
    for (; *s >= '0' && *s <= '9' && s - *text < 6; s++) v = v * 10 + (uint32_t)(*s - '0');
    if (s == *text || v > most) return false;
    *text = s;
    *value = v;
    return true;
}
/* "[fe80::1%eth0]" up to the bracket; moves *text behind it. */
DLSI_FN bool dlsi_addr_v6(const char **text, dls_addr *addr) {
    const char *end = strchr(*text, ']'), *zone;
    const size_t n = end != NULL ? (size_t)(end - *text - 1) : 0;
    char host[64];
    unsigned index = 0;
    if (end == NULL || n >= sizeof host) return false;
    memcpy(host, *text + 1, n);
    host[n] = '\0';
    zone = strchr(host, '%');
    if (zone != NULL) {
        index = if_nametoindex(zone + 1);
        if (index == 0 || index > 255) return false;
        host[zone - host] = '\0';
    }
    if (inet_pton(AF_INET6, host, addr->bytes) != 1) return false;
    addr->size = zone != NULL ? 19 : 18;
    addr->bytes[18] = (uint8_t)index;
    *text = end + 1;
    return true;
}
/* An address up to `stop` or the end; moves *text there. */
DLSI_FN bool dlsi_addr_take(const char **text, char stop, dls_addr *addr) {
    const char *s = *text;
    uint32_t value = 0;
    int i;
    memset(addr, 0, sizeof *addr);
    addr->size = 6;
    if (strncmp(s, "localhost:", 10) == 0) {
        s += 9;
        addr->bytes[0] = 127;
        addr->bytes[3] = 1;
    } else if (*s == '[') {
        if (!dlsi_addr_v6(&s, addr)) return false;
    } else {
        for (i = 0; i < 4; i++) {
            if (i > 0 && *s++ != '.') return false;
            if (!dlsi_addr_number(&s, 255, &value)) return false;
            addr->bytes[i] = (uint8_t)value;
        }
    }
    if (*s++ != ':' || !dlsi_addr_number(&s, 65535, &value) || (*s != stop && *s != '\0'))
        return false;
    *addr = dlsi_find_place(addr, value);
    *text = s;
    return true;
}
DLS_API dls_status dls_addr_read(dls_addr *addr, const char *text) {
    return dlsi_addr_take(&text, '\0', addr) ? DLS_OK : DLS_E_ARG;
}
DLS_API char *dls_addr_text(const dls_addr *addr, char *buf, size_t bytes) {
    dlsi_text t;
    t.buf = buf;
    t.used = 0;
    t.size = bytes;
    dlsi_text_addr(&t, addr);
    buf[t.used] = '\0';
    return buf;
}
DLSI_FN uint32_t dlsi_addr_port(const dls_addr *a) {
    const int at = a->size == 6 ? 4 : 16;
    return (uint32_t)a->bytes[at] << 8 | a->bytes[at + 1];
}
DLSI_FN bool dlsi_addr_loopback(const dls_addr *a) {
    static const uint8_t one[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return a->size == 6 ? a->bytes[0] == 127 : a->size >= 18 && memcmp(a->bytes, one, 16) == 0;
}
/* mapped: for a socket of both kinds. */
DLSI_FN socklen_t dlsi_addr_os(const dls_addr *a, bool mapped, dlsi_sockaddr *to) {
    memset(to, 0, sizeof *to);
    if (a->size == 6 && !mapped) {
        to->v4.sin_family = AF_INET;
        memcpy(&to->v4.sin_addr, a->bytes, 4);
        memcpy(&to->v4.sin_port, a->bytes + 4, 2);
        return sizeof to->v4;
    }
    to->v6.sin6_family = AF_INET6;
    if (a->size == 6) {
        memset((unsigned char *)&to->v6.sin6_addr + 10, 0xFF, 2);
        memcpy((unsigned char *)&to->v6.sin6_addr + 12, a->bytes, 4);
        memcpy(&to->v6.sin6_port, a->bytes + 4, 2);
    } else {
        memcpy(&to->v6.sin6_addr, a->bytes, 16);
        memcpy(&to->v6.sin6_port, a->bytes + 16, 2);
        if (a->size == 19) to->v6.sin6_scope_id = a->bytes[18];
    }
    return sizeof to->v6;
}
DLSI_FN void dlsi_addr_from(dls_addr *a, const dlsi_sockaddr *from) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    const unsigned char *v6 = (const unsigned char *)&from->v6.sin6_addr;
    memset(a, 0, sizeof *a);
    if (from->any.sa_family == AF_INET) {
        a->size = 6;
        memcpy(a->bytes, &from->v4.sin_addr, 4);
        memcpy(a->bytes + 4, &from->v4.sin_port, 2);
    } else if (memcmp(v6, mapped, sizeof mapped) == 0) {
        a->size = 6;
        memcpy(a->bytes, v6 + 12, 4);
        memcpy(a->bytes + 4, &from->v6.sin6_port, 2);
    } else {
        const uint32_t scope = from->v6.sin6_scope_id;
        a->size = scope != 0 && scope < 256 ? 19 : 18;
        memcpy(a->bytes, v6, 16);
        memcpy(a->bytes + 16, &from->v6.sin6_port, 2);
        a->bytes[18] = (uint8_t)(scope < 256 ? scope : 0);
    }
}
/* One "7@192.168.1.5:7000" of a list; moves *list behind it and its comma. */
DLSI_FN dls_status dlsi_addr_next(const dls_peer *p, const char **list, bool plain, int32_t *rank,
                                  dls_addr *addr, dls_error *error) {
    const char *s = *list;
    uint32_t id = 0;
    if (!dlsi_addr_number(&s, 999999, &id) || *s++ != '@' || !dlsi_addr_take(&s, ',', addr) ||
        dlsi_addr_port(addr) == 0)
        return dlsi_fail(error, DLS_E_ARG,
                         DLSI_MSG("'{s}' is not like 3@192.168.1.5:7000: device id, numeric "
                                  "address, port; commas between several"),
                         *list, 0, 0, 0);
    *rank = dls_peer_rank_of(p, id);
    if (*rank < 0)
        return dlsi_fail(error, DLS_E_NOT_FOUND, DLSI_MSG("device {0} of '{s}' is not known here"),
                         *list, (int32_t)id, 0, 0);
    if (!dlsi_addr_loopback(addr) && p->desc.psk == NULL && !plain)
        return dlsi_fail(error, DLS_E_REFUSED,
                         DLSI_MSG("'{s}' is not loopback (127.x.x.x): give keys to encrypt, or "
                                  "allow plaintext by name"),
                         *list, 0, 0, 0);
    *list = *s == ',' ? s + 1 : s;
    return DLS_OK;
}
DLSI_FN void dlsi_fd_prepare(int fd) {
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}
DLSI_FN bool dlsi_fd_later(void) {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* ---- Links ---- */

struct dls_links {
    dls_peer *peer;
    dls_link *first;
    dls_fd *fd;
    struct pollfd *polled;
    int32_t fds_max, fds; /* room; promised to links */
    int wake[2];
};

DLSI_FN dls_links *dlsi_links_layout(dlsi_layout *l, const dls_links_desc *d) {
    const int32_t max = dlsi_or(d->fds_max, 64);
    dls_links *s = (dls_links *)dlsi_layout_take(l, sizeof *s);
    dls_fd *fd = (dls_fd *)dlsi_layout_take(l, (size_t)max * sizeof *fd);
    struct pollfd *polled =
        (struct pollfd *)dlsi_layout_take(l, (size_t)(max + 1) * sizeof *polled);
    if (s == NULL) return NULL;
    memset(s, 0, sizeof *s);
    s->peer = d->peer;
    s->fd = fd;
    s->polled = polled;
    s->fds_max = max;
    s->wake[0] = s->wake[1] = -1;
    return s;
}
DLS_API size_t dls_links_size(const dls_links_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    if (desc->fds_max < 0 || desc->fds_max > 65536) return 0;
    (void)dlsi_links_layout(&l, desc);
    return dlsi_layout_total(&l);
}
DLS_API dls_status dls_links_init(dls_links **links, const dls_links_desc *desc, void *mem,
                                  size_t bytes, dls_error *error) {
    dlsi_layout l = dlsi_layout_at(mem);
    const size_t need = dls_links_size(desc);
    dls_links *s;
    *links = NULL;
    dlsi_error_clear(error);
    if (need == 0)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("fds_max is {0}, not 0 to 65536"), NULL,
                         desc->fds_max, 0, 0);
    if (mem == NULL || bytes < need)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("too little memory for the links"), NULL, 0,
                         0, 0);
    s = dlsi_links_layout(&l, desc);
    if (pipe(s->wake) != 0)
        return dlsi_fail(error, DLS_E_IO, DLSI_MSG("cannot make a pipe (errno {0})"), NULL, errno,
                         0, 0);
    dlsi_fd_prepare(s->wake[0]);
    dlsi_fd_prepare(s->wake[1]);
    *links = s;
    return DLS_OK;
}
DLS_API dls_status dls_links_add(dls_links *links, dls_link *link) {
    dls_link **at = &links->first;
    if (link->fds_max < 0 || link->fds_max > links->fds_max - links->fds) return DLS_E_LIMIT;
    while (*at != NULL) at = &(*at)->next;
    links->fds += link->fds_max;
    link->next = NULL;
    link->at = link->fds = 0;
    *at = link;
    return DLS_OK;
}
DLS_API void dls_links_remove(dls_links *links, dls_link *link) {
    dls_link **at = &links->first;
    while (*at != NULL && *at != link) at = &(*at)->next;
    if (*at == NULL) return;
    *at = link->next;
    links->fds -= link->fds_max;
}
DLS_API void dls_links_wake(dls_links *links) {
    const char byte = 1;
    if (write(links->wake[1], &byte, 1) < 0) return; /* full: it is awake already */
}
/* Asks all links what to wait for; returns the number of fds and when the wait must end. */
DLSI_FN int32_t dlsi_links_prepare(dls_links *s, uint64_t now, uint64_t *until) {
    dls_link *link;
    int32_t n = 0, i;
    for (link = s->first; link != NULL; link = link->next) {
        link->at = n;
        link->fds = link->wait(link, s->fd + n, now, until);
        n += link->fds;
    }
    for (i = 0; i < n; i++) {
        const uint8_t want = s->fd[i].want;
        s->fd[i].got = 0;
        s->polled[i].fd = s->fd[i].fd;
        s->polled[i].events = (short)(((want & DLS_FD_READ) != 0 ? POLLIN : 0) |
                                      ((want & DLS_FD_WRITE) != 0 ? POLLOUT : 0));
        s->polled[i].revents = 0;
    }
    s->polled[n].fd = s->wake[0];
    s->polled[n].events = POLLIN;
    s->polled[n].revents = 0;
    return n;
}
DLS_API void dls_links_poll(dls_links *links, uint64_t timeout_us, void (*lock)(void *),
                            void (*unlock)(void *), void *user) {
    uint64_t now = dls_now_us(), until = dlsi_later(now, timeout_us);
    dls_link *link, *next;
    int32_t i, n, wait_ms;
    char drain[64];
    if (lock != NULL) lock(user);
    dls_peer_tick(links->peer, now);
    n = dlsi_links_prepare(links, now, &until);
    until = dlsi_min_u64(until, dls_peer_deadline(links->peer)); /* links drew what was due */
    if (unlock != NULL) unlock(user);
    now = dls_now_us();
    until = until > now ? until - now : 0;
    wait_ms = until > 1000000u ? 1000 : (int32_t)((until + 999u) / 1000u);
    if (poll(links->polled, (nfds_t)(n + 1), wait_ms) < 0) n = 0;
    if (lock != NULL) lock(user);
    while (links->wake[0] >= 0 && (links->polled[n].revents & POLLIN) != 0 &&
           read(links->wake[0], drain, sizeof drain) > 0) {}
    for (i = 0; i < n; i++) {
        const int got = links->polled[i].revents;
        links->fd[i].got = (uint8_t)(((got & ~POLLOUT) != 0 ? DLS_FD_READ : 0u) |
                                     ((got & POLLOUT) != 0 ? DLS_FD_WRITE : 0u));
    }
    now = dls_now_us();
    for (link = links->first; link != NULL; link = next) {
        next = link->next;
        link->serve(link, links->fd + link->at, n > 0 ? link->fds : 0, now);
    }
    if (unlock != NULL) unlock(user);
}
DLS_API void dls_links_close(dls_links *links) {
    const uint64_t now = dls_now_us();
    int32_t i;
    if (links == NULL) return;
    while (links->first != NULL) {
        dls_link *link = links->first;
        dls_links_remove(links, link);
        link->close(link, now);
    }
    for (i = 0; i < 2; i++) {
        if (links->wake[i] >= 0) (void)close(links->wake[i]);
        links->wake[i] = -1;
    }
}

/* ---- TCP ---- */

typedef struct dlsi_tcp_conn {
    int fd;       /* -1: none */
    int32_t port; /* of the engine, -1: still connecting */
    int32_t rank; /* whom we call, -1: we were called */
    uint64_t since;
    unsigned char *mem;
} dlsi_tcp_conn;
typedef struct dlsi_tcp_call { /* of a rank */
    dls_addr to;               /* size 0: not called */
    uint64_t again;
    bool under_way;
} dlsi_tcp_call;
struct dls_tcp {
    dls_link link; /* first */
    dls_peer *peer;
    dls_links *links; /* its own, for dls_tcp_poll */
    void *links_mem;
    dlsi_tcp_call *call;
    dlsi_tcp_conn *conn;
    int32_t size, conns, record_bytes;
    bool plain;
    uint64_t deaf; /* accepts nothing until then */
    int listener;
};

DLSI_FN int32_t dlsi_tcp_ranks(const dls_tcp_desc *d) {
    return d->peers != NULL ? dlsi_max_i32(d->size, 1) : d->peer->desc.devices_max;
}
DLSI_FN dls_links_desc dlsi_tcp_set(const dls_tcp_desc *d) {
    dls_links_desc set;
    DLSI_ZERO(set);
    set.peer = d->peer;
    set.fds_max = dlsi_tcp_ranks(d) + 5;
    return set;
}
DLSI_FN dls_tcp *dlsi_tcp_layout(dlsi_layout *l, const dls_tcp_desc *d) {
    const size_t size = (size_t)dlsi_tcp_ranks(d), conns = size + 4;
    const int32_t record = dlsi_or(d->record_bytes, size <= 32 ? 65535 : 16384);
    const size_t mem = DLS_PORT_BYTES(DLS_PORT_STREAM, record);
    const dls_links_desc links = dlsi_tcp_set(d);
    dls_tcp *t = (dls_tcp *)dlsi_layout_take(l, sizeof *t);
    dlsi_tcp_call *call = (dlsi_tcp_call *)dlsi_layout_take(l, size * sizeof *call);
    dlsi_tcp_conn *conn = (dlsi_tcp_conn *)dlsi_layout_take(l, conns * sizeof *conn);
    unsigned char *buffers = (unsigned char *)dlsi_layout_take(l, dlsi_mul(conns, mem));
    void *links_mem;
    size_t i;
    links_mem = dlsi_layout_take(l, dls_links_size(&links));
    if (t == NULL) return NULL;
    memset(t, 0, sizeof *t);
    memset(call, 0, size * sizeof *call);
    t->peer = d->peer;
    t->links_mem = links_mem;
    t->call = call;
    t->conn = conn;
    t->size = (int32_t)size;
    t->conns = (int32_t)conns;
    t->record_bytes = record;
    t->plain = d->allow_plaintext;
    t->listener = -1;
    for (i = 0; i < conns; i++) {
        conn[i].fd = -1;
        conn[i].port = conn[i].rank = -1;
        conn[i].since = 0;
        conn[i].mem = buffers + i * mem;
    }
    return t;
}
DLS_API size_t dls_tcp_size(const dls_tcp_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    (void)dlsi_tcp_layout(&l, desc);
    return dlsi_layout_total(&l);
}
/* One address per rank: those of lower ranks are called, the own one is listened on. */
DLSI_FN dls_status dlsi_tcp_peers(dls_tcp *t, const dls_tcp_desc *d, dls_addr *mine,
                                  dls_error *error) {
    const char *s = d->peers;
    int32_t i;
    for (i = 0; i < t->size; i++) {
        dls_addr a;
        if (!dlsi_addr_take(&s, ',', &a) || dlsi_addr_port(&a) == 0)
            return dlsi_fail(
                error, DLS_E_ARG,
                DLSI_MSG(
                    "address {0} of '{s}' is not like 127.0.0.1:7000; want {1}, parted by commas"),
                d->peers, i, t->size, 0);
        if (!dlsi_addr_loopback(&a) && t->peer->desc.psk == NULL && !t->plain)
            return dlsi_fail(error, DLS_E_REFUSED,
                             DLSI_MSG("address {0} of '{s}' is not loopback (127.x.x.x): give keys "
                                      "to encrypt, or allow plaintext by name"),
                             d->peers, i, 0, 0);
        if (i < d->rank) t->call[i].to = a;
        if (i == d->rank) *mine = a;
        s += *s == ',' ? 1 : 0;
    }
    return *s == '\0' ? DLS_OK
                      : dlsi_fail(error, DLS_E_ARG, DLSI_MSG("'{s}' has more than {0} addresses"),
                                  d->peers, t->size, 0, 0);
}
DLSI_FN dls_status dlsi_tcp_own(dls_tcp *t, const dls_tcp_desc *d, dls_addr *mine,
                                dls_error *error) {
    if (dls_addr_read(mine, d->listen) != DLS_OK)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("'{s}' is not like 0.0.0.0:7000"), d->listen, 0,
                         0, 0);
    if (dlsi_addr_loopback(mine) || t->peer->desc.psk != NULL || t->plain) return DLS_OK;
    return dlsi_fail(error, DLS_E_REFUSED,
                     DLSI_MSG("'{s}' is not loopback (127.x.x.x): give keys to encrypt, or allow "
                              "plaintext by name"),
                     d->listen, 0, 0, 0);
}
DLSI_FN dls_status dlsi_tcp_listen(dls_tcp *t, const dls_addr *at, const char *text,
                                   dls_error *error) {
    const int one = 1;
    dlsi_sockaddr os;
    const socklen_t n = dlsi_addr_os(at, false, &os);
    t->listener = socket(os.any.sa_family, SOCK_STREAM, 0);
    if (t->listener >= 0) (void)setsockopt(t->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (t->listener < 0 || bind(t->listener, &os.any, n) != 0 || listen(t->listener, 16) != 0)
        return dlsi_fail(
            error, DLS_E_IO,
            DLSI_MSG(
                "cannot listen on port {0} of '{s}' (errno {1}); is another program using it?"),
            text, (int32_t)dlsi_addr_port(at), errno, 0);
    dlsi_fd_prepare(t->listener);
    return DLS_OK;
}
DLSI_FN void dlsi_tcp_drop(dls_tcp *t, dlsi_tcp_conn *c, uint64_t now) {
    if (c->port >= 0) dls_peer_port_close(t->peer, c->port, now);
    if (c->fd >= 0) (void)close(c->fd);
    if (c->fd >= 0 && c->rank >= 0) {
        t->call[c->rank].under_way = false;
        t->call[c->rank].again = now + 100000;
    }
    c->fd = -1;
    c->port = c->rank = -1;
}
DLSI_FN void dlsi_tcp_close(dls_link *link, uint64_t now) {
    dls_tcp *t = (dls_tcp *)link;
    int32_t i;
    for (i = 0; i < t->conns; i++) dlsi_tcp_drop(t, &t->conn[i], now);
    if (t->listener >= 0) (void)close(t->listener);
    t->listener = -1;
    if (t->links == NULL) return;
    dls_links_remove(t->links, &t->link);
    dls_links_close(t->links);
    t->links = NULL;
}
/* The engine learns of a connection. False: it wants none. Who may be plain was settled when the
   addresses were read. */
DLSI_FN bool dlsi_tcp_open(dls_tcp *t, dlsi_tcp_conn *c, uint64_t now) {
    dls_port_desc d;
    if (c->rank >= 0 && dls_peer_is_up(t->peer, c->rank)) return false; /* by another link */
    DLSI_ZERO(d);
    d.kind = DLS_PORT_STREAM;
    d.mtu = t->record_bytes;
    d.plain = true;
    d.call = c->rank >= 0;
    d.rank = c->rank;
    d.mem = c->mem;
    d.bytes = DLS_PORT_BYTES(DLS_PORT_STREAM, t->record_bytes);
    c->port = dls_peer_port_open(t->peer, &d, now);
    return c->port >= 0;
}
DLSI_FN dlsi_tcp_conn *dlsi_tcp_take(dls_tcp *t, int fd, int32_t rank, uint64_t now) {
    const int one = 1;
    int32_t i;
    for (i = 0; i < t->conns && t->conn[i].fd >= 0; i++) {}
    if (i == t->conns) return NULL;
    dlsi_fd_prepare(fd);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    t->conn[i].fd = fd;
    t->conn[i].rank = rank;
    t->conn[i].since = now;
    return &t->conn[i];
}
/* Calls peers that are neither connected nor being called. */
DLSI_FN void dlsi_tcp_call_all(dls_tcp *t, uint64_t now, uint64_t *until) {
    dlsi_sockaddr os;
    int32_t i;
    for (i = 0; i < t->size && i < dls_peer_count(t->peer); i++) {
        dlsi_tcp_call *k = &t->call[i];
        dlsi_tcp_conn *c = NULL;
        socklen_t n;
        int fd;
        if (k->to.size == 0 || k->under_way || t->peer->leaving) continue;
        *until =
            dlsi_min_u64(*until, k->again > now ? k->again : now + 100000); /* look again soon */
        if (now < k->again || dls_peer_is_up(t->peer, i)) continue;
        n = dlsi_addr_os(&k->to, false, &os);
        fd = socket(os.any.sa_family, SOCK_STREAM, 0);
        if (fd >= 0) c = dlsi_tcp_take(t, fd, i, now);
        k->again = now + 100000;
        if (c == NULL) {
            if (fd >= 0) (void)close(fd);
            continue;
        }
        k->under_way = true;
        if (connect(c->fd, &os.any, n) != 0 && errno != EINPROGRESS) dlsi_tcp_drop(t, c, now);
    }
}
/* When strangers hold all places, the one that has said nothing for longest goes. */
DLSI_FN void dlsi_tcp_evict(dls_tcp *t, uint64_t now) {
    dlsi_tcp_conn *oldest = NULL;
    int32_t i;
    for (i = 0; i < t->conns; i++) {
        dlsi_tcp_conn *c = &t->conn[i];
        if (c->fd < 0) return;
        if (c->port < 0 || c->rank >= 0 || t->peer->port[c->port].ses >= 0) continue;
        if (oldest == NULL || c->since < oldest->since) oldest = c;
    }
    if (oldest != NULL) dlsi_tcp_drop(t, oldest, now);
}
DLSI_FN void dlsi_tcp_accept(dls_tcp *t, uint64_t now) {
    for (;;) {
        const int fd = accept(t->listener, NULL, NULL);
        dlsi_tcp_conn *c;
        if (fd < 0) {
            if (!dlsi_fd_later())
                t->deaf = now + 100000; /* out of descriptors: not at once again */
            return;
        }
        dlsi_tcp_evict(t, now);
        c = dlsi_tcp_take(t, fd, -1, now);
        if (c == NULL)
            (void)close(fd);
        else if (!dlsi_tcp_open(t, c, now))
            dlsi_tcp_drop(t, c, now);
    }
}
/* Reads what there is, up to a limit that lets others have their turn. */
DLSI_FN bool dlsi_tcp_read(dls_tcp *t, dlsi_tcp_conn *c, uint64_t now) {
    int32_t turn;
    for (turn = 0; turn < 64; turn++) {
        size_t size;
        void *to = dls_peer_rx_span(t->peer, c->port, &size);
        ssize_t n;
        if (size == 0) return true;
        n = recv(c->fd, to, size, 0);
        if (n == 0) return false;
        if (n < 0) return dlsi_fd_later();
        if (dls_peer_rx_done(t->peer, c->port, (size_t)n, now) != DLS_OK) return false;
    }
    return true;
}
DLSI_FN bool dlsi_tcp_write(dls_tcp *t, dlsi_tcp_conn *c, uint64_t now) {
    int32_t turn;
    for (turn = 0; turn < 64; turn++) {
        size_t size;
        const void *from = dls_peer_tx_span(t->peer, c->port, &size, now);
        ssize_t n;
        if (size == 0) return true;
        n = send(c->fd, from, size, MSG_NOSIGNAL);
        if (n < 0) return dlsi_fd_later();
        dls_peer_tx_done(t->peer, c->port, (size_t)n, now);
    }
    return true;
}
DLSI_FN void dlsi_tcp_serve_conn(dls_tcp *t, dlsi_tcp_conn *c, uint8_t got, uint64_t now) {
    bool good = true;
    if (c->port < 0) {
        int problem = 0;
        socklen_t length = sizeof problem;
        if (got == 0) return;
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &length) != 0 || problem != 0 ||
            !dlsi_tcp_open(t, c, now)) {
            dlsi_tcp_drop(t, c, now);
            return;
        }
    }
    if ((got & DLS_FD_READ) != 0) good = dlsi_tcp_read(t, c, now);
    if (good) good = dlsi_tcp_write(t, c, now); /* tried always: ops may have come */
    if (!good || dls_peer_port_done(t->peer, c->port)) dlsi_tcp_drop(t, c, now);
}
/* The connections that are open, in order, then the listener. */
DLSI_FN int32_t dlsi_tcp_wait(dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until) {
    dls_tcp *t = (dls_tcp *)link;
    int32_t i, n = 0;
    dlsi_tcp_call_all(t, now, until);
    for (i = 0; i < t->conns; i++) {
        const dlsi_tcp_conn *c = &t->conn[i];
        size_t in = 0, out = 0;
        if (c->fd < 0) continue;
        if (c->port >= 0) {
            (void)dls_peer_rx_span(t->peer, c->port, &in);
            (void)dls_peer_tx_span(t->peer, c->port, &out, now);
        }
        fd[n].fd = c->fd;
        fd[n++].want =
            (uint8_t)((in > 0 ? DLS_FD_READ : 0u) | (out > 0 || c->port < 0 ? DLS_FD_WRITE : 0u));
    }
    if (t->listener < 0) return n;
    fd[n].fd = t->listener;
    fd[n++].want = now >= t->deaf ? DLS_FD_READ : 0;
    if (now < t->deaf) *until = dlsi_min_u64(*until, t->deaf);
    return n;
}
DLSI_FN void dlsi_tcp_serve(dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now) {
    dls_tcp *t = (dls_tcp *)link;
    int32_t i, k = 0;
    for (i = 0; i < t->conns; i++)
        if (t->conn[i].fd >= 0) {
            dlsi_tcp_serve_conn(t, &t->conn[i], k < fds ? fd[k].got : 0, now);
            k++;
        }
    if (t->listener >= 0 && fds > 0 && fd[fds - 1].got != 0) dlsi_tcp_accept(t, now);
}
DLS_API dls_status dls_tcp_init(dls_tcp **tcp, const dls_tcp_desc *desc, void *mem, size_t bytes,
                                dls_error *error) {
    dlsi_layout l = dlsi_layout_at(mem);
    const dls_links_desc set = dlsi_tcp_set(desc);
    dls_addr mine;
    dls_tcp *t;
    dls_status st;
    *tcp = NULL;
    dlsi_error_clear(error);
    if (desc->peers != NULL ? desc->size < 1 || desc->rank < 0 || desc->rank >= desc->size
                            : desc->listen == NULL && desc->size > 0)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("rank {0} of {1} peers, or no addresses"), NULL,
                         desc->rank, desc->size, 0);
    if (mem == NULL || bytes < dls_tcp_size(desc))
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("too little memory for the driver"), NULL, 0,
                         0, 0);
    t = dlsi_tcp_layout(&l, desc);
    t->link.wait = dlsi_tcp_wait;
    t->link.serve = dlsi_tcp_serve;
    t->link.close = dlsi_tcp_close;
    t->link.fds_max = t->conns + 1;
    memset(&mine, 0, sizeof mine);
    st = dls_links_init(&t->links, &set, t->links_mem, dls_links_size(&set), error);
    if (st == DLS_OK) (void)dls_links_add(t->links, &t->link);
    if (st == DLS_OK && desc->peers != NULL)
        st = dlsi_tcp_peers(t, desc, &mine, error);
    else if (st == DLS_OK && desc->listen != NULL)
        st = dlsi_tcp_own(t, desc, &mine, error);
    if (st == DLS_OK && mine.size > 0)
        st = dlsi_tcp_listen(t, &mine, desc->peers != NULL ? desc->peers : desc->listen, error);
    if (st != DLS_OK) {
        dlsi_tcp_close(&t->link, 0);
        return st;
    }
    *tcp = t;
    return DLS_OK;
}
DLS_API dls_status dls_tcp_connect(dls_tcp *tcp, const char *list, dls_error *error) {
    dls_status st = DLS_OK;
    dlsi_error_clear(error);
    while (*list != '\0' && st == DLS_OK) {
        dls_addr a;
        int32_t rank = -1;
        st = dlsi_addr_next(tcp->peer, &list, tcp->plain, &rank, &a, error);
        if (st == DLS_OK && rank < tcp->size) tcp->call[rank].to = a;
    }
    return st;
}
DLSI_FN int32_t dlsi_fd_port(int fd) {
    dlsi_sockaddr os;
    socklen_t length = sizeof os;
    dls_addr a;
    if (fd < 0 || getsockname(fd, &os.any, &length) != 0) return 0;
    dlsi_addr_from(&a, &os);
    return (int32_t)dlsi_addr_port(&a);
}
DLS_API int32_t dls_tcp_port(const dls_tcp *tcp) { return dlsi_fd_port(tcp->listener); }
DLS_API dls_link *dls_tcp_link(dls_tcp *tcp) {
    dls_links_remove(tcp->links, &tcp->link);
    return &tcp->link;
}
DLS_API void dls_tcp_poll(dls_tcp *tcp, uint64_t timeout_us, void (*lock)(void *),
                          void (*unlock)(void *), void *user) {
    dls_links_poll(tcp->links, timeout_us, lock, unlock, user);
}
DLS_API void dls_tcp_wake(dls_tcp *tcp) { dls_links_wake(tcp->links); }
DLS_API void dls_tcp_close(dls_tcp *tcp) {
    if (tcp != NULL) dlsi_tcp_close(&tcp->link, dls_now_us());
}
DLS_API int32_t dls_tcp_free_port(void) {
    dls_addr a;
    dlsi_sockaddr os;
    socklen_t n;
    int32_t port = 0;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) return 0;
    (void)dls_addr_read(&a, "127.0.0.1:0");
    n = dlsi_addr_os(&a, false, &os);
    if (bind(fd, &os.any, n) == 0) port = dlsi_fd_port(fd);
    (void)close(fd);
    return port;
}

/* ---- UDP ---- */

#define DLSI_UDP_MTU 1232
#define DLSI_UDP_BATCH 64 /* packets each way before others have their turn */

struct dls_udp {
    dls_link link; /* first */
    dls_peer *peer;
    unsigned char *in, *out;
    dls_addr to;
    size_t pending; /* bytes in out that wait for room */
    uint64_t again; /* the device's queue was full: not before */
    int32_t port, mtu;
    int fd;
    bool v6, plain;
};

DLSI_FN dls_udp *dlsi_udp_layout(dlsi_layout *l, const dls_udp_desc *d) {
    const int32_t mtu = dlsi_or(d->mtu, DLSI_UDP_MTU);
    dls_udp *u = (dls_udp *)dlsi_layout_take(l, sizeof *u);
    unsigned char *in = (unsigned char *)dlsi_layout_take(l, (size_t)mtu + 1);
    unsigned char *out = (unsigned char *)dlsi_layout_take(l, (size_t)mtu);
    if (u == NULL) return NULL;
    memset(u, 0, sizeof *u);
    u->peer = d->peer;
    u->in = in;
    u->out = out;
    u->mtu = mtu;
    u->plain = d->allow_plaintext;
    u->port = u->fd = -1;
    return u;
}
DLS_API size_t dls_udp_size(const dls_udp_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    if (desc->mtu < 0 || desc->mtu > 65507) return 0;
    (void)dlsi_udp_layout(&l, desc);
    return dlsi_layout_total(&l);
}
DLSI_FN void dlsi_udp_close(dls_link *link, uint64_t now) {
    dls_udp *u = (dls_udp *)link;
    if (u->port >= 0) dls_peer_port_close(u->peer, u->port, now);
    if (u->fd >= 0) (void)close(u->fd);
    u->port = u->fd = -1;
}
/* The packet that goes next, drawn from the engine when there is none. */
DLSI_FN bool dlsi_udp_next(dls_udp *u, uint64_t now) {
    if (u->pending == 0) u->pending = dls_peer_tx_packet(u->peer, u->port, &u->to, u->out, now);
    return u->pending > 0;
}
DLSI_FN int32_t dlsi_udp_wait(dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until) {
    dls_udp *u = (dls_udp *)link;
    const bool more = dlsi_udp_next(u, now), paused = now < u->again && u->again - now < 1000000u;
    if (u->fd < 0) return 0;
    if (paused) *until = dlsi_min_u64(*until, u->again);
    fd->fd = u->fd;
    fd->want = (uint8_t)(DLS_FD_READ | (more && !paused ? DLS_FD_WRITE : 0u));
    return 1;
}
DLSI_FN void dlsi_udp_read(dls_udp *u, uint64_t now) {
    int32_t turn;
    for (turn = 0; turn < DLSI_UDP_BATCH; turn++) {
        dlsi_sockaddr os;
        socklen_t length = sizeof os;
        dls_addr from;
        const ssize_t n = recvfrom(u->fd, u->in, (size_t)u->mtu + 1, 0, &os.any, &length);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n <= 0 || n > u->mtu) continue; /* an ICMP answer to a send, or overlong */
        dlsi_addr_from(&from, &os);
        if (u->peer->desc.psk == NULL && !u->plain && !dlsi_addr_loopback(&from)) continue;
        dls_peer_rx_packet(u->peer, u->port, &from, u->in, (size_t)n, now);
    }
}
DLSI_FN void dlsi_udp_write(dls_udp *u, uint64_t now) {
    int32_t turn;
    for (turn = 0; turn < DLSI_UDP_BATCH && dlsi_udp_next(u, now); turn++) {
        dlsi_sockaddr os;
        const socklen_t length = dlsi_addr_os(&u->to, u->v6, &os);
        if (sendto(u->fd, u->out, u->pending, MSG_NOSIGNAL, &os.any, length) < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return;
            if (errno == EINTR) continue;
            if (errno == ENOBUFS || errno == ENOMEM) {
                u->again = now + 1000;
                return;
            }
        } /* any other error: this packet is lost, as packets may be */
        u->pending = 0;
    }
}
DLSI_FN void dlsi_udp_serve(dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now) {
    dls_udp *u = (dls_udp *)link;
    if (u->fd < 0) return;
    if (fds > 0 && (fd->got & DLS_FD_READ) != 0) dlsi_udp_read(u, now);
    if (now >= u->again || u->again - now > 1000000u) dlsi_udp_write(u, now);
}
/* The address of the desc; without one every address, or loopback when there are no keys. */
DLSI_FN dls_status dlsi_udp_where(const dls_udp *u, const dls_udp_desc *d, dls_addr *at,
                                  dls_error *error) {
    const bool open = u->peer->desc.psk != NULL || u->plain;
    if (d->udp_port < 0 || d->udp_port > 65535 || u->mtu < 64)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("udp_port is {0}, mtu {1}"), NULL, d->udp_port,
                         u->mtu, 0);
    if (d->bind == NULL) {
        (void)dls_addr_read(at, open ? "[::]:0" : "127.0.0.1:0");
        *at = dlsi_find_place(at, (uint32_t)d->udp_port);
        return DLS_OK;
    }
    if (dls_addr_read(at, d->bind) != DLS_OK)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("'{s}' is not like 0.0.0.0:7000"), d->bind, 0,
                         0, 0);
    if (!open && !dlsi_addr_loopback(at))
        return dlsi_fail(error, DLS_E_REFUSED,
                         DLSI_MSG("'{s}' is not loopback (127.x.x.x): give keys to encrypt, or "
                                  "allow plaintext by name"),
                         d->bind, 0, 0, 0);
    return DLS_OK;
}
/* Binds; an address for all, where there is no IPv6, becomes that of IPv4. */
DLSI_FN bool dlsi_udp_bind(dls_udp *u, dls_addr *at, bool all) {
    const int size = 1 << 20, off = 0;
    dlsi_sockaddr os;
    for (;;) {
        const socklen_t n = dlsi_addr_os(at, false, &os);
        u->v6 = at->size != 6;
        u->fd = socket(os.any.sa_family, SOCK_DGRAM, 0);
        if (u->fd >= 0 && u->v6)
            (void)setsockopt(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        if (u->fd >= 0 && bind(u->fd, &os.any, n) == 0) break;
        if (!all || !u->v6 || (u->fd >= 0 && errno == EADDRINUSE)) return false;
        if (u->fd >= 0) (void)close(u->fd);
        u->fd = -1;
        at->size = 6;
        at->bytes[4] = at->bytes[16];
        at->bytes[5] = at->bytes[17];
    }
    dlsi_fd_prepare(u->fd);
    (void)setsockopt(u->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(u->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return true;
}
DLS_API dls_status dls_udp_init(dls_udp **udp, const dls_udp_desc *desc, void *mem, size_t bytes,
                                dls_error *error) {
    dlsi_layout l = dlsi_layout_at(mem);
    dls_port_desc port;
    dls_addr at;
    dls_udp *u;
    dls_status st;
    *udp = NULL;
    dlsi_error_clear(error);
    if (mem == NULL || bytes < dls_udp_size(desc) || dls_udp_size(desc) == 0)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("too little memory for the driver"), NULL, 0,
                         0, 0);
    u = dlsi_udp_layout(&l, desc);
    u->link.wait = dlsi_udp_wait;
    u->link.serve = dlsi_udp_serve;
    u->link.close = dlsi_udp_close;
    u->link.fds_max = 1;
    st = dlsi_udp_where(u, desc, &at, error);
    if (st == DLS_OK && !dlsi_udp_bind(u, &at, desc->bind == NULL))
        st = dlsi_fail(error, DLS_E_IO,
                       DLSI_MSG("cannot open UDP port {0} (errno {1}); is another program using "
                                "it?"),
                       NULL, (int32_t)dlsi_addr_port(&at), errno, 0);
    if (st == DLS_OK) {
        DLSI_ZERO(port);
        port.kind = DLS_PORT_PACKET;
        port.mtu = u->mtu;
        port.plain = true; /* who may be plain was settled with the address */
        u->port = dls_peer_port_open(u->peer, &port, dls_now_us());
        if (u->port < 0)
            st = dlsi_fail(error, DLS_E_LIMIT, DLSI_MSG("the engine has no port left (ports_max)"),
                           NULL, 0, 0, 0);
    }
    if (st != DLS_OK) {
        dlsi_udp_close(&u->link, 0);
        return st;
    }
    *udp = u;
    return DLS_OK;
}
DLS_API dls_status dls_udp_connect(dls_udp *udp, const char *list, dls_error *error) {
    dls_status st = DLS_OK;
    dlsi_error_clear(error);
    while (*list != '\0' && st == DLS_OK) {
        dls_addr a;
        int32_t rank = -1;
        st = dlsi_addr_next(udp->peer, &list, udp->plain, &rank, &a, error);
        if (st == DLS_OK) dls_peer_call(udp->peer, rank, udp->port, &a, dls_now_us());
    }
    return st;
}
DLS_API int32_t dls_udp_port(const dls_udp *udp) { return dlsi_fd_port(udp->fd); }
DLS_API dls_link *dls_udp_link(dls_udp *udp) { return &udp->link; }
DLS_API void dls_udp_close(dls_udp *udp) {
    if (udp != NULL) dlsi_udp_close(&udp->link, dls_now_us());
}

/* ---- Discovery over UDP ---- */

#define DLSI_LAN_PORT 7399
#define DLSI_LAN_GROUP "239.255.68.76"
#if defined(SO_REUSEPORT) && !defined(__linux__) /* where several may await broadcasts by it */
#define DLSI_LAN_SHARE SO_REUSEPORT
#else
#define DLSI_LAN_SHARE SO_REUSEADDR
#endif

struct dls_lan {
    dls_link link; /* first */
    dls_udp *udp;
    dls_find *find;
    dls_addr group; /* and port */
    dls_addr bound; /* of udp: its announcements go out there only; all zero: everywhere */
    bool no_multicast, no_broadcast;
    int fd;
};

DLSI_FN dls_find_desc dlsi_lan_find(const dls_lan_desc *d) {
    dls_find_desc f;
    DLSI_ZERO(f);
    f.peer = d->udp->peer;
    f.port = d->udp->port;
    f.udp_port = (uint32_t)dls_udp_port(d->udp);
    return f;
}
DLS_API size_t dls_lan_size(const dls_lan_desc *desc) {
    const dls_find_desc f = dlsi_lan_find(desc);
    dlsi_layout l = dlsi_layout_at(NULL);
    (void)dlsi_layout_take(&l, sizeof(dls_lan));
    (void)dlsi_layout_take(&l, dls_find_size(&f));
    return dlsi_layout_total(&l);
}
DLSI_FN void dlsi_lan_close(dls_link *link, uint64_t now) {
    dls_lan *n = (dls_lan *)link;
    (void)now;
    if (n->fd >= 0) (void)close(n->fd);
    n->fd = -1;
}
DLSI_FN bool dlsi_lan_send(dls_lan *n, const struct sockaddr_in *to, const void *packet) {
    struct sockaddr_in a = *to;
    const uint16_t port = (uint16_t)dlsi_addr_port(&n->group);
    a.sin_port = htons(port);
    return sendto(n->fd, packet, DLS_ANNOUNCE_BYTES, MSG_NOSIGNAL, (struct sockaddr *)&a,
                  sizeof a) == DLS_ANNOUNCE_BYTES;
}
/* On one interface, by each way it has; returns how many worked. Joins the group there, too: it may
   be new. */
DLSI_FN int32_t dlsi_lan_interface(dls_lan *n, const struct ifaddrs *i, const void *packet) {
    const struct sockaddr_in *own = (const struct sockaddr_in *)(const void *)i->ifa_addr;
    struct sockaddr_in to;
    struct ip_mreq join;
    int32_t ways = 0;
    if (n->bound.bytes[0] != 0 && memcmp(&own->sin_addr, n->bound.bytes, 4) != 0) return 0;
    memset(&join, 0, sizeof join);
    memcpy(&join.imr_multiaddr, n->group.bytes, 4);
    join.imr_interface = own->sin_addr;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    if (!n->no_multicast && (i->ifa_flags & IFF_MULTICAST) != 0) {
        (void)setsockopt(n->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join);
        to.sin_addr = join.imr_multiaddr;
        if (setsockopt(n->fd, IPPROTO_IP, IP_MULTICAST_IF, &own->sin_addr, sizeof own->sin_addr) ==
            0)
            ways += dlsi_lan_send(n, &to, packet) ? 1 : 0;
    }
    if (n->no_broadcast) return ways;
    if ((i->ifa_flags & IFF_LOOPBACK) != 0) {
        to.sin_addr.s_addr = htonl(0x7FFFFFFFu);
        (void)dlsi_lan_send(n, &to, packet); /* reaches this device alone: no way to others */
    } else if ((i->ifa_flags & IFF_BROADCAST) != 0 && i->ifa_broadaddr != NULL) {
        memcpy(&to, i->ifa_broadaddr, sizeof to);
        ways += dlsi_lan_send(n, &to, packet) ? 1 : 0;
    }
    return ways;
}
DLSI_FN void dlsi_lan_announce(dls_lan *n, uint64_t now) {
    unsigned char packet[DLS_ANNOUNCE_BYTES];
    struct ifaddrs *all = NULL, *i;
    int32_t ways = 0;
    if (dls_find_write(n->find, packet, now) == 0) return;
    if (getifaddrs(&all) != 0) return;
    for (i = all; i != NULL; i = i->ifa_next)
        if (i->ifa_addr != NULL && i->ifa_addr->sa_family == AF_INET &&
            (i->ifa_flags & IFF_UP) != 0)
            ways += dlsi_lan_interface(n, i, packet);
    freeifaddrs(all);
    n->find->ways = ways;
}
DLSI_FN int32_t dlsi_lan_wait(dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until) {
    dls_lan *n = (dls_lan *)link;
    if (n->fd < 0) return 0;
    dlsi_lan_announce(n, now);
    *until = dlsi_min_u64(*until, dls_find_deadline(n->find));
    fd->fd = n->fd;
    fd->want = DLS_FD_READ;
    return 1;
}
DLSI_FN void dlsi_lan_serve(dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now) {
    dls_lan *n = (dls_lan *)link;
    int32_t turn;
    if (n->fd < 0 || fds == 0 || fd->got == 0) return;
    for (turn = 0; turn < DLSI_UDP_BATCH; turn++) {
        unsigned char packet[DLS_ANNOUNCE_BYTES + 1];
        dlsi_sockaddr os;
        socklen_t length = sizeof os;
        dls_addr from;
        const ssize_t got = recvfrom(n->fd, packet, sizeof packet, 0, &os.any, &length);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (got <= 0) continue;
        dlsi_addr_from(&from, &os);
        (void)dls_find_read(n->find, &from, packet, (size_t)got, now);
    }
}
/* A socket that stands on one address is reached there only. */
DLSI_FN void dlsi_lan_bound(dls_lan *n) {
    dlsi_sockaddr os;
    socklen_t length = sizeof os;
    dls_addr a;
    if (getsockname(n->udp->fd, &os.any, &length) != 0) return;
    dlsi_addr_from(&a, &os);
    if (a.size == 6) n->bound = a;
}
/* All programs of a device await announcements on one port. */
DLSI_FN bool dlsi_lan_bind(dls_lan *n) {
    const int one = 1;
    dls_addr any;
    dlsi_sockaddr os;
    socklen_t length;
    memset(&any, 0, sizeof any);
    any.size = 6;
    any = dlsi_find_place(&any, dlsi_addr_port(&n->group));
    length = dlsi_addr_os(&any, false, &os);
    n->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (n->fd < 0) return false;
    (void)setsockopt(n->fd, SOL_SOCKET, DLSI_LAN_SHARE, &one, sizeof one);
    if (setsockopt(n->fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one) != 0 ||
        bind(n->fd, &os.any, length) != 0)
        return false;
    dlsi_fd_prepare(n->fd);
    return true;
}
DLS_API dls_status dls_lan_init(dls_lan **lan, const dls_lan_desc *desc, void *mem, size_t bytes,
                                dls_error *error) {
    const dls_find_desc find = dlsi_lan_find(desc);
    const uint32_t port = (uint32_t)dlsi_or(desc->port, DLSI_LAN_PORT);
    const char *group = desc->group != NULL ? desc->group : DLSI_LAN_GROUP;
    dlsi_layout l = dlsi_layout_at(mem);
    struct in_addr multicast;
    dls_lan *n;
    void *find_mem;
    dls_status st;
    *lan = NULL;
    dlsi_error_clear(error);
    if (mem == NULL || bytes < dls_lan_size(desc))
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("too little memory for the driver"), NULL, 0,
                         0, 0);
    if (inet_pton(AF_INET, group, &multicast) != 1 || (ntohl(multicast.s_addr) >> 28) != 14 ||
        port > 65535)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("'{s}' is no multicast group, or {0} no port"),
                         group, (int32_t)port, 0, 0);
    n = (dls_lan *)dlsi_layout_take(&l, sizeof *n);
    find_mem = dlsi_layout_take(&l, dls_find_size(&find));
    memset(n, 0, sizeof *n);
    n->fd = -1;
    n->udp = desc->udp;
    n->no_multicast = desc->no_multicast;
    n->no_broadcast = desc->no_broadcast;
    n->group.size = 6;
    memcpy(n->group.bytes, &multicast, 4);
    n->group = dlsi_find_place(&n->group, port);
    dlsi_lan_bound(n);
    n->link.wait = dlsi_lan_wait;
    n->link.serve = dlsi_lan_serve;
    n->link.close = dlsi_lan_close;
    n->link.fds_max = 1;
    st = dls_find_init(&n->find, &find, find_mem, dls_find_size(&find));
    if (st != DLS_OK)
        return dlsi_fail(error, st, DLSI_MSG("discovery needs keys, and random numbers"), NULL, 0,
                         0, 0);
    if (find.udp_port == 0 || !dlsi_lan_bind(n)) {
        st = dlsi_fail(error, DLS_E_IO,
                       DLSI_MSG("cannot await announcements on UDP port {0} (errno {1})"), NULL,
                       (int32_t)port, errno, 0);
        dlsi_lan_close(&n->link, 0);
        return st;
    }
    *lan = n;
    return DLS_OK;
}
DLS_API dls_find *dls_lan_find(dls_lan *lan) { return lan->find; }
DLS_API dls_link *dls_lan_link(dls_lan *lan) { return &lan->link; }
DLS_API void dls_lan_close(dls_lan *lan) {
    if (lan != NULL) dlsi_lan_close(&lan->link, 0);
}

/* ---- Serial ---- */

#define DLSI_SERIAL_MTU 384
#define DLSI_SERIAL_AGAIN 500000u /* between tries to open it again */
#ifdef B4000000
#define DLSI_SERIAL_FAST                                                                           \
    {460800, B460800}, {500000, B500000}, {921600, B921600}, {1000000, B1000000},                  \
        {1500000, B1500000}, {2000000, B2000000}, {3000000, B3000000}, {4000000, B4000000},
#else
#define DLSI_SERIAL_FAST
#endif

struct dls_serial {
    dls_link link; /* first */
    dls_serial_desc desc;
    unsigned char *mem;
    uint64_t again;
    int32_t port, rank;
    int fd;
};
typedef struct dlsi_baud {
    int32_t baud;
    speed_t code;
} dlsi_baud;

DLSI_FN const dlsi_baud *dlsi_serial_baud(int32_t baud) {
    static const dlsi_baud row[] = {
        {1200, B1200},   {2400, B2400},   {4800, B4800},     {9600, B9600},     {19200, B19200},
        {38400, B38400}, {57600, B57600}, {115200, B115200}, {230400, B230400}, DLSI_SERIAL_FAST};
    size_t i;
    for (i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i].baud == baud) return &row[i];
    return NULL;
}
DLSI_FN dls_serial *dlsi_serial_layout(dlsi_layout *l, const dls_serial_desc *d) {
    dls_serial *s = (dls_serial *)dlsi_layout_take(l, sizeof *s);
    unsigned char *mem;
    dls_serial_desc full = *d;
    full.mtu = dlsi_or(d->mtu, DLSI_SERIAL_MTU);
    mem = (unsigned char *)dlsi_layout_take(l, DLS_PORT_BYTES(DLS_PORT_SERIAL, full.mtu));
    if (s == NULL) return NULL;
    memset(s, 0, sizeof *s);
    s->desc = full;
    s->mem = mem;
    s->port = s->rank = s->fd = -1;
    return s;
}
DLS_API size_t dls_serial_size(const dls_serial_desc *desc) {
    dlsi_layout l = dlsi_layout_at(NULL);
    if (desc->mtu < 0 || desc->mtu > 65535) return 0;
    (void)dlsi_serial_layout(&l, desc);
    return dlsi_layout_total(&l);
}
/* Eight bits, no parity, no flow control, nothing interpreted. */
DLSI_FN bool dlsi_serial_raw(int fd, int32_t baud) {
    const dlsi_baud *row = dlsi_serial_baud(baud);
    struct termios t;
    if (tcgetattr(fd, &t) != 0) return errno == ENOTTY || errno == EINVAL; /* a socket or pipe */
    t.c_iflag = IGNBRK | IGNPAR;
    t.c_oflag = 0;
    t.c_lflag = 0;
    t.c_cflag = (t.c_cflag & ~(tcflag_t)(CSIZE | PARENB | CSTOPB)) | CS8 | CREAD | CLOCAL;
    t.c_cc[VMIN] = 1; /* with 0, nothing to read would look like the end */
    t.c_cc[VTIME] = 0;
    if (row != NULL && (cfsetispeed(&t, row->code) != 0 || cfsetospeed(&t, row->code) != 0))
        return false;
    if (tcsetattr(fd, TCSANOW, &t) != 0) return false;
    (void)tcflush(fd, TCIOFLUSH);
    return true;
}
DLSI_FN int dlsi_serial_connect(const char *text) {
    dls_addr a;
    dlsi_sockaddr os;
    socklen_t n;
    int fd;
    if (dls_addr_read(&a, text) != DLS_OK) {
        errno = EINVAL;
        return -1;
    }
    n = dlsi_addr_os(&a, false, &os);
    fd = socket(os.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    if (connect(fd, &os.any, n) == 0) return fd;
    (void)close(fd);
    return -1;
}
/* Opens the tty and the engine's port; errno says why not. */
DLSI_FN dls_status dlsi_serial_open(dls_serial *s, uint64_t now) {
    const char *path = s->desc.path;
    dls_port_desc d;
    const int one = 1;
    if (path != NULL)
        s->fd = strncmp(path, "tcp:", 4) == 0 ? dlsi_serial_connect(path + 4)
                                              : open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    else if (s->fd < 0) /* given and gone */
        return DLS_E_IO;
    if (s->fd < 0) return errno == ENOENT ? DLS_E_NOT_FOUND : DLS_E_IO;
    if (!dlsi_serial_raw(s->fd, s->desc.baud)) return DLS_E_IO;
    dlsi_fd_prepare(s->fd);
    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    DLSI_ZERO(d);
    d.kind = DLS_PORT_SERIAL;
    d.mtu = s->desc.mtu;
    d.plain = s->desc.allow_plaintext;
    d.call = s->desc.call;
    d.rank = s->rank;
    d.mem = s->mem;
    d.bytes = DLS_PORT_BYTES(DLS_PORT_SERIAL, s->desc.mtu);
    s->port = dls_peer_port_open(s->desc.peer, &d, now);
    return s->port >= 0 ? DLS_OK : DLS_E_LIMIT;
}
DLSI_FN void dlsi_serial_close(dls_link *link, uint64_t now) {
    dls_serial *s = (dls_serial *)link;
    if (s->port >= 0) dls_peer_port_close(s->desc.peer, s->port, now);
    if (s->fd >= 0) (void)close(s->fd);
    s->port = s->fd = -1;
    s->again = now + DLSI_SERIAL_AGAIN;
}
DLSI_FN int32_t dlsi_serial_wait(dls_link *link, dls_fd *fd, uint64_t now, uint64_t *until) {
    dls_serial *s = (dls_serial *)link;
    size_t out;
    if (s->fd < 0 && s->desc.path != NULL) {
        if (s->again > now + DLSI_SERIAL_AGAIN) s->again = now; /* the clock jumped back */
        if (now >= s->again && dlsi_serial_open(s, now) != DLS_OK) dlsi_serial_close(link, now);
        if (s->fd < 0) *until = dlsi_min_u64(*until, s->again);
    }
    if (s->fd < 0) return 0;
    (void)dls_peer_tx_span(s->desc.peer, s->port, &out, now);
    fd->fd = s->fd;
    fd->want = (uint8_t)(DLS_FD_READ | (out > 0 ? DLS_FD_WRITE : 0u));
    return 1;
}
DLSI_FN bool dlsi_serial_read(dls_serial *s, uint64_t now) {
    unsigned char bytes[1024];
    int32_t turn;
    for (turn = 0; turn < 16; turn++) {
        const ssize_t n = read(s->fd, bytes, sizeof bytes);
        if (n < 0) return dlsi_fd_later();
        if (n == 0) return false;
        (void)dls_peer_rx(s->desc.peer, s->port, bytes, (size_t)n, now);
    }
    return true;
}
/* A socket must not raise a signal when its other end is gone. */
DLSI_FN ssize_t dlsi_serial_put(int fd, const void *from, size_t bytes) {
    const ssize_t n = send(fd, from, bytes, MSG_NOSIGNAL);
    return n < 0 && errno == ENOTSOCK ? write(fd, from, bytes) : n;
}
DLSI_FN bool dlsi_serial_write(dls_serial *s, uint64_t now) {
    int32_t turn;
    for (turn = 0; turn < 16; turn++) {
        size_t size;
        const void *from = dls_peer_tx_span(s->desc.peer, s->port, &size, now);
        ssize_t n;
        if (size == 0) return true;
        n = dlsi_serial_put(s->fd, from, size);
        if (n < 0) return dlsi_fd_later();
        dls_peer_tx_done(s->desc.peer, s->port, (size_t)n, now);
    }
    return true;
}
DLSI_FN void dlsi_serial_serve(dls_link *link, const dls_fd *fd, int32_t fds, uint64_t now) {
    dls_serial *s = (dls_serial *)link;
    bool good = true;
    if (s->fd < 0) return;
    if (fds > 0 && (fd->got & DLS_FD_READ) != 0) good = dlsi_serial_read(s, now);
    if (good) good = dlsi_serial_write(s, now);
    if (!good) dlsi_serial_close(link, now);
}
DLS_API dls_status dls_serial_init(dls_serial **serial, const dls_serial_desc *desc, void *mem,
                                   size_t bytes, dls_error *error) {
    dlsi_layout l = dlsi_layout_at(mem);
    dls_serial *s;
    dls_status st;
    *serial = NULL;
    dlsi_error_clear(error);
    if (mem == NULL || bytes < dls_serial_size(desc) || dls_serial_size(desc) == 0)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("too little memory for the driver"), NULL, 0,
                         0, 0);
    if (desc->baud != 0 && dlsi_serial_baud(desc->baud) == NULL)
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("this system has no {0} baud"), desc->path,
                         desc->baud, 0, 0);
    if (desc->peer->desc.psk == NULL && !desc->allow_plaintext)
        return dlsi_fail(error, DLS_E_REFUSED,
                         DLSI_MSG("give keys to encrypt, or allow plaintext on '{s}' by name"),
                         desc->path != NULL ? desc->path : "serial", 0, 0, 0);
    s = dlsi_serial_layout(&l, desc);
    s->link.wait = dlsi_serial_wait;
    s->link.serve = dlsi_serial_serve;
    s->link.close = dlsi_serial_close;
    s->link.fds_max = 1;
    if (desc->call) s->rank = dls_peer_rank_of(desc->peer, desc->id);
    if (desc->call && s->rank < 0)
        return dlsi_fail(error, DLS_E_NOT_FOUND, DLSI_MSG("device {0} to call is not known here"),
                         desc->path, (int32_t)desc->id, 0, 0);
    if (desc->path == NULL) s->fd = desc->fd;
    st = dlsi_serial_open(s, dls_now_us());
    if (st != DLS_OK) {
        st = st == DLS_E_LIMIT
                 ? dlsi_fail(error, st,
                             DLSI_MSG("no port left in the engine (ports_max), or mtu {0} "
                                      "out of range"),
                             NULL, s->desc.mtu, 0, 0)
                 : dlsi_fail(error, st,
                             DLSI_MSG("cannot open '{s}' as a serial line (errno {0}); is it "
                                      "plugged in, may you use it?"),
                             desc->path != NULL ? desc->path : "the given fd", errno, 0, 0);
        dlsi_serial_close(&s->link, 0);
        return st;
    }
    *serial = s;
    return DLS_OK;
}
DLS_API dls_link *dls_serial_link(dls_serial *serial) { return &serial->link; }
DLS_API void dls_serial_close(dls_serial *serial) {
    if (serial != NULL) dlsi_serial_close(&serial->link, dls_now_us());
}
#endif

#if DLS_ENABLE_SOCKETS && DLS_ENABLE_FILES && DLS_ENABLE_HEAP && DLS_ENABLE_SIGN
/* ---- Key files ----
   A table of fields says what stands in a kind of file, in order, one "name value" a line, between
   "dlshard KIND 1" and "check CRC": the CRC-32C of all lines before, in hexadecimal. */

#define DLSI_KEY_BYTES_MAX 1024
#define DLSI_ROSTER_SPARE 16 /* devices that may be enrolled while an engine runs */

enum { DLSI_FIELD_NAME = 1, DLSI_FIELD_ID, DLSI_FIELD_HEX32, DLSI_FIELD_KEY, DLSI_FIELD_SMALL };
typedef struct dlsi_field {
    const char *name, *what; /* what: the words when it is wrong, {0}: the line */
    size_t at;               /* in the struct */
    uint8_t kind;
} dlsi_field;
typedef struct dlsi_key_kind {
    const char *head, *head_wrong;
    const dlsi_field *field;
    int32_t fields;
} dlsi_key_kind;

DLSI_FN const dlsi_key_kind *dlsi_key_root(void) {
    static const dlsi_field field[] = {
        {"group", DLSI_MSG("'{s}', line {0}: wanted 'group' and 8 hexadecimal digits"),
         offsetof(dls_root, group), DLSI_FIELD_HEX32},
        {"seed", DLSI_MSG("'{s}', line {0}: wanted 'seed' and 64 hexadecimal digits"),
         offsetof(dls_root, seed), DLSI_FIELD_KEY},
        {"psk", DLSI_MSG("'{s}', line {0}: wanted 'psk' and 64 hexadecimal digits"),
         offsetof(dls_root, psk), DLSI_FIELD_KEY}};
    static const dlsi_key_kind kind = {
        "dlshard root key ",
        DLSI_MSG("'{s}' is no root key; `dlshard keygen` makes one, it begins 'dlshard root key'"),
        field, 3};
    return &kind;
}
DLSI_FN const dlsi_key_kind *dlsi_key_device(void) {
    static const dlsi_field field[] = {
        {"name", DLSI_MSG("'{s}', line {0}: wanted 'name' and 1 to 15 printable characters"),
         offsetof(dls_keys, name), DLSI_FIELD_NAME},
        {"group", DLSI_MSG("'{s}', line {0}: wanted 'group' and 8 hexadecimal digits"),
         offsetof(dls_keys, group), DLSI_FIELD_HEX32},
        {"id", DLSI_MSG("'{s}', line {0}: wanted 'id' and a number"), offsetof(dls_keys, id),
         DLSI_FIELD_ID},
        {"kind", DLSI_MSG("'{s}', line {0}: wanted 'kind full' or 'kind small'"),
         offsetof(dls_keys, small), DLSI_FIELD_SMALL},
        {"secret", DLSI_MSG("'{s}', line {0}: wanted 'secret' and 64 hexadecimal digits"),
         offsetof(dls_keys, secret), DLSI_FIELD_KEY},
        {"psk", DLSI_MSG("'{s}', line {0}: wanted 'psk' and 64 hexadecimal digits"),
         offsetof(dls_keys, psk), DLSI_FIELD_KEY},
        {"root", DLSI_MSG("'{s}', line {0}: wanted 'root' and 64 hexadecimal digits"),
         offsetof(dls_keys, root), DLSI_FIELD_KEY}};
    static const dlsi_key_kind kind = {
        "dlshard device key ",
        DLSI_MSG("'{s}' is no device key; `dlshard enrol` makes one, it begins 'dlshard device "
                 "key'"),
        field, 7};
    return &kind;
}

DLSI_FN void dlsi_text_hex(dlsi_text *t, const unsigned char *bytes, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) {
        const char digit[3] = {"0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15],
                               '\0'};
        dlsi_text_str(t, digit);
    }
}
DLSI_FN void dlsi_text_hex32(dlsi_text *t, uint32_t v) {
    const unsigned char bytes[4] = {(unsigned char)(v >> 24 & 255u),
                                    (unsigned char)(v >> 16 & 255u), (unsigned char)(v >> 8 & 255u),
                                    (unsigned char)(v & 255u)};
    dlsi_text_hex(t, bytes, 4);
}
/* Exactly n bytes in hexadecimal, small letters. */
DLSI_FN bool dlsi_hex_read(const char *text, size_t length, unsigned char *to, size_t n) {
    size_t i;
    if (length != 2 * n) return false;
    for (i = 0; i < length; i++) {
        const char c = text[i];
        const int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0) return false;
        to[i / 2] = (unsigned char)(i % 2 == 0 ? v << 4 : to[i / 2] | v);
    }
    return true;
}
DLSI_FN bool dlsi_name_good(const char *name, size_t length) {
    size_t i;
    for (i = 0; i < length && name[i] > ' ' && name[i] <= '~'; i++) {}
    return length >= 1 && length <= 15 && i == length;
}
DLSI_FN bool dlsi_field_read(const dlsi_field *f, const char *text, size_t n, unsigned char *to) {
    unsigned char bytes[4];
    uint32_t value = 0;
    size_t i;
    bool small = true;
    switch (f->kind) {
    case DLSI_FIELD_NAME:
        if (!dlsi_name_good(text, n)) return false;
        memset(to, 0, 16);
        memcpy(to, text, n);
        return true;
    case DLSI_FIELD_ID:
        for (i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
            value = value * 10 + (uint32_t)(text[i] - '0');
        if (n == 0 || n > 9 || i < n || (text[0] == '0' && n > 1)) return false;
        memcpy(to, &value, sizeof value);
        return true;
    case DLSI_FIELD_HEX32:
        if (!dlsi_hex_read(text, n, bytes, 4)) return false;
        for (i = 0; i < 4; i++) value = value << 8 | bytes[i];
        memcpy(to, &value, sizeof value);
        return true;
    case DLSI_FIELD_SMALL:
        if (n == 4 && memcmp(text, "full", 4) == 0)
            small = false;
        else if (n != 5 || memcmp(text, "small", 5) != 0)
            return false;
        memcpy(to, &small, sizeof small);
        return true;
    default: return dlsi_hex_read(text, n, to, 32);
    }
}
DLSI_FN void dlsi_field_write(const dlsi_field *f, const unsigned char *from, dlsi_text *t) {
    uint32_t value;
    bool small;
    dlsi_text_str(t, f->name);
    dlsi_text_str(t, " ");
    memcpy(&value, from, sizeof value);
    memcpy(&small, from, sizeof small);
    switch (f->kind) {
    case DLSI_FIELD_NAME: dlsi_text_str(t, (const char *)from); break;
    case DLSI_FIELD_ID: dlsi_text_int(t, value); break;
    case DLSI_FIELD_HEX32: dlsi_text_hex32(t, value); break;
    case DLSI_FIELD_SMALL: dlsi_text_str(t, small ? "small" : "full"); break;
    default: dlsi_text_hex(t, from, 32); break;
    }
    dlsi_text_str(t, "\n");
}
/* The value of the next line "name value", NULL: it is another. Moves *at behind the line. */
DLSI_FN const char *dlsi_line_take(const char **at, const char *end, const char *name, size_t *n) {
    const char *s = *at, *stop = (const char *)memchr(s, '\n', (size_t)(end - s));
    const size_t length = strlen(name);
    if (stop == NULL || (size_t)(stop - s) <= length || memcmp(s, name, length) != 0 ||
        s[length] != ' ')
        return NULL;
    *at = stop + 1;
    *n = (size_t)(stop - s) - length - 1;
    return s + length + 1;
}
DLSI_FN dls_status dlsi_key_parse(const dlsi_key_kind *kind, const char *text, size_t bytes,
                                  void *to, const char *path, dls_error *error) {
    const char *at = text, *end = text + bytes, *value;
    const size_t head = strlen(kind->head);
    unsigned char crc[4], want[4];
    size_t n = 0;
    int32_t i;
    if (bytes <= head || memcmp(text, kind->head, head) != 0)
        return dlsi_fail(error, DLS_E_FORMAT, kind->head_wrong, path, 0, 0, 0);
    if (bytes < head + 2 || memcmp(text + head, "1\n", 2) != 0)
        return dlsi_fail(error, DLS_E_VERSION,
                         DLSI_MSG("'{s}' is of another version of dlshard; this one reads version "
                                  "1"),
                         path, 0, 0, 0);
    at += head + 2;
    for (i = 0; i < kind->fields; i++) {
        const dlsi_field *f = &kind->field[i];
        value = dlsi_line_take(&at, end, f->name, &n);
        if (value == NULL && memchr(at, '\n', (size_t)(end - at)) == NULL)
            return dlsi_fail(error, DLS_E_FORMAT,
                             DLSI_MSG("'{s}' is cut short after line {0}; take it from a backup"),
                             path, i + 1, 0, 0);
        if (value == NULL || !dlsi_field_read(f, value, n, (unsigned char *)to + f->at))
            return dlsi_fail(error, DLS_E_FORMAT, f->what, path, i + 2, 0, 0);
    }
    dlsi_store32(want, dls_crc32c(0, text, (size_t)(at - text)));
    value = dlsi_line_take(&at, end, "check", &n);
    if (value == NULL || !dlsi_hex_read(value, n, crc, 4) || at != end)
        return dlsi_fail(error, DLS_E_FORMAT,
                         DLSI_MSG("'{s}' does not end after line {0}, 'check' and 8 hexadecimal "
                                  "digits"),
                         path, kind->fields + 2, 0, 0);
    if (memcmp(crc, want, 4) != 0)
        return dlsi_fail(
            error, DLS_E_CHECKSUM,
            DLSI_MSG("'{s}' was changed: its checksum is wrong; take it from a backup"), path, 0, 0,
            0);
    return DLS_OK;
}
DLSI_FN dls_status dlsi_key_load(const dlsi_key_kind *kind, void *to, size_t size, const char *path,
                                 dls_error *error) {
    struct stat about;
    void *text;
    size_t bytes;
    dls_status st;
    dlsi_error_clear(error);
    memset(to, 0, size);
    if (stat(path, &about) == 0 && (about.st_mode & 077) != 0)
        return dlsi_fail(error, DLS_E_REFUSED,
                         DLSI_MSG("others may read '{s}': chmod 600 it, and if somebody may have, "
                                  "make new keys"),
                         path, 0, 0, 0);
    st = dlsi_port_read_file(path, &text, &bytes, error);
    if (st != DLS_OK) return st;
    st = dlsi_key_parse(kind, (const char *)text, bytes, to, path, error);
    dls_wipe(text, bytes);
    DLS_FREE(text);
    if (st != DLS_OK) dls_wipe(to, size);
    return st;
}
DLSI_FN dls_status dlsi_key_fresh(const char *path, bool force, dls_error *error) {
    struct stat about;
    if (force || stat(path, &about) != 0) return DLS_OK;
    return dlsi_fail(error, DLS_E_STATE,
                     DLSI_MSG("'{s}' exists already and would be lost; --force overwrites it"),
                     path, 0, 0, 0);
}
/* Writes a file that nobody else may ever read: it is made so before anything is in it. */
DLSI_FN dls_status dlsi_key_write(const char *path, const void *bytes, size_t n, dls_error *error) {
    const size_t length = strlen(path);
    char *beside = (char *)DLS_MALLOC(length + 5);
    dls_status st = DLS_OK;
    int fd;
    if (beside == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for a path"), path, 0, 0, 0);
    memcpy(beside, path, length);
    memcpy(beside + length, ".new", 5);
    (void)DLS_FS_REMOVE(beside);
    fd = open(beside, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        st = dlsi_port_errno(error, path, DLSI_MSG("cannot create '{s}.new' (errno {0})"));
    else
        (void)close(fd);
    DLS_FREE(beside);
    return st == DLS_OK ? dlsi_port_write_file(path, bytes, n, error) : st;
}
DLSI_FN dls_status dlsi_key_save(const dlsi_key_kind *kind, const void *from, const char *path,
                                 bool force, dls_error *error) {
    char text[DLSI_KEY_BYTES_MAX];
    dlsi_text t;
    dls_status st;
    int32_t i;
    dlsi_error_clear(error);
    st = dlsi_key_fresh(path, force, error);
    if (st != DLS_OK) return st;
    t.buf = text;
    t.used = 0;
    t.size = sizeof text;
    dlsi_text_str(&t, kind->head);
    dlsi_text_str(&t, "1\n");
    for (i = 0; i < kind->fields; i++)
        dlsi_field_write(&kind->field[i], (const unsigned char *)from + kind->field[i].at, &t);
    {
        unsigned char crc[4];
        dlsi_store32(crc, dls_crc32c(0, text, t.used));
        dlsi_text_str(&t, "check ");
        dlsi_text_hex(&t, crc, 4);
        dlsi_text_str(&t, "\n");
    }
    st = dlsi_key_write(path, text, t.used, error);
    dls_wipe(text, sizeof text);
    return st;
}
DLS_API dls_status dls_root_make(dls_root *root, dls_error *error) {
    unsigned char group[4];
    dls_status st;
    dlsi_error_clear(error);
    st = dls_random(root->seed, sizeof root->seed);
    if (st == DLS_OK) st = dls_random(root->psk, sizeof root->psk);
    if (st == DLS_OK) st = dls_random(group, sizeof group);
    root->group = dlsi_load32(group);
    return st == DLS_OK ? st
                        : dlsi_fail(error, st, DLSI_MSG("the system gives no random numbers"), NULL,
                                    0, 0, 0);
}
DLS_API dls_status dls_root_load(dls_root *root, const char *path, dls_error *error) {
    return dlsi_key_load(dlsi_key_root(), root, sizeof *root, path, error);
}
DLS_API dls_status dls_root_save(const dls_root *root, const char *path, bool force,
                                 dls_error *error) {
    return dlsi_key_save(dlsi_key_root(), root, path, force, error);
}
DLS_API dls_status dls_keys_load(dls_keys *keys, const char *path, dls_error *error) {
    return dlsi_key_load(dlsi_key_device(), keys, sizeof *keys, path, error);
}
DLS_API dls_status dls_keys_save(const dls_keys *keys, const char *path, bool force,
                                 dls_error *error) {
    return dlsi_key_save(dlsi_key_device(), keys, path, force, error);
}

/* ---- Roster files ---- */

DLSI_FN dls_status dlsi_roster_words(dls_status st, const char *path, dls_error *error) {
    return dlsi_fail(
        error, st,
        st == DLS_E_AUTH ? DLSI_MSG("'{s}' is not signed by this group's root key, or was changed")
        : st == DLS_E_VERSION ? DLSI_MSG("'{s}' is a roster of another version, or none")
                              : DLSI_MSG("'{s}' is no roster, or is cut short or damaged"),
        path, 0, 0, 0);
}
DLS_API dls_status dls_roster_load(dls_roster_file *file, const char *path,
                                   const unsigned char *root32, dls_error *error) {
    dls_status st;
    memset(file, 0, sizeof *file);
    dlsi_error_clear(error);
    st = dlsi_port_read_file(path, &file->bytes, &file->count, error);
    if (st != DLS_OK) return st;
    file->device = (dls_device *)DLS_MALLOC(DLS_ROSTER_DEVICES * sizeof *file->device);
    if (file->device == NULL)
        st = dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for a roster"), path, 0, 0, 0);
    else
        st = dls_roster_read(&file->roster, file->device, DLS_ROSTER_DEVICES, file->bytes,
                             file->count, root32);
    if (st == DLS_OK) return st;
    dls_roster_free(file);
    return dlsi_roster_words(st, path, error);
}
DLS_API void dls_roster_free(dls_roster_file *file) {
    if (file->bytes != NULL) DLS_FREE(file->bytes);
    if (file->device != NULL) DLS_FREE(file->device);
    memset(file, 0, sizeof *file);
}
/* Signs what stands in device[0..count), as the next epoch; on failure the file is as before. */
DLSI_FN dls_status dlsi_roster_sign(dls_roster_file *file, const dls_root *root, int32_t count,
                                    dls_error *error) {
    const size_t bytes = dls_roster_bytes(count);
    void *to = DLS_MALLOC(bytes);
    dls_roster r = file->roster;
    dls_status st;
    if (to == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for a roster"), NULL, 0, 0, 0);
    r.group = root->group;
    r.epoch++;
    r.count = count;
    r.device = file->device;
    st = r.epoch == 0 ? DLS_E_LIMIT : dls_roster_write(&r, root->seed, to, bytes);
    if (st != DLS_OK) {
        DLS_FREE(to);
        return dlsi_fail(error, st, DLSI_MSG("the roster cannot be signed: a role or key is wrong"),
                         NULL, 0, 0, 0);
    }
    if (file->bytes != NULL) DLS_FREE(file->bytes);
    file->bytes = to;
    file->count = bytes;
    file->roster = r;
    return DLS_OK;
}
DLSI_FN int32_t dlsi_roster_named(const dls_roster_file *file, const char *name) {
    int32_t i;
    for (i = 0; i < file->roster.count; i++)
        if (strncmp(file->device[i].name, name, sizeof file->device[i].name) == 0) return i;
    return -1;
}
DLS_API dls_status dls_roster_enrol(dls_roster_file *file, const dls_root *root, const char *name,
                                    uint32_t role, bool small, dls_keys *keys, dls_error *error) {
    const int32_t n = file->roster.count;
    dls_device *d;
    dls_status st = DLS_OK;
    dlsi_error_clear(error);
    memset(keys, 0, sizeof *keys);
    if (!dlsi_name_good(name, strlen(name)) || role > 63u || (role & DLS_ROLE_JOIN) == 0)
        return dlsi_fail(error, DLS_E_ARG,
                         DLSI_MSG("'{s}' is no name (1 to 15 printable characters, no blanks), or "
                                  "its roles lack join"),
                         name, 0, 0, 0);
    if (n > 0 && file->roster.group != root->group)
        return dlsi_fail(error, DLS_E_MISMATCH,
                         DLSI_MSG("the roster is of another group than the root key"), NULL, 0, 0,
                         0);
    if (n == DLS_ROSTER_DEVICES)
        return dlsi_fail(error, DLS_E_LIMIT, DLSI_MSG("the roster is full: {0} devices"), NULL, n,
                         0, 0);
    if (n > 0 && dlsi_roster_named(file, name) >= 0)
        return dlsi_fail(error, DLS_E_STATE,
                         DLSI_MSG("'{s}' is in the roster already, perhaps revoked; choose another "
                                  "name"),
                         name, 0, 0, 0);
    if (file->device == NULL)
        file->device = (dls_device *)DLS_MALLOC(DLS_ROSTER_DEVICES * sizeof *file->device);
    if (file->device == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory for a roster"), NULL, 0, 0, 0);
    d = &file->device[n];
    memset(d, 0, sizeof *d);
    memcpy(d->name, name, strlen(name));
    d->id = n > 0 ? file->device[n - 1].id + 1 : 1;
    d->role = (uint8_t)role;
    d->flags = (uint8_t)(small ? DLS_DEVICE_SMALL : 0u);
    memcpy(keys->name, d->name, sizeof keys->name);
    keys->group = root->group;
    keys->id = d->id;
    keys->small = small;
    dls_ed25519_public(keys->root, root->seed);
    if (small) {
        dls_device_psk(keys->psk, root->psk, root->group, d->id);
    } else {
        memcpy(keys->psk, root->psk, sizeof keys->psk);
        st = dls_random(keys->secret, sizeof keys->secret);
        dls_x25519_public(d->public_key, keys->secret);
    }
    if (st != DLS_OK)
        (void)dlsi_fail(error, st, DLSI_MSG("the system gives no random numbers"), NULL, 0, 0, 0);
    if (st == DLS_OK) st = dlsi_roster_sign(file, root, n + 1, error);
    if (st != DLS_OK) dls_wipe(keys, sizeof *keys);
    return st;
}
DLS_API dls_status dls_roster_revoke(dls_roster_file *file, const dls_root *root, const char *name,
                                     dls_error *error) {
    const int32_t i = dlsi_roster_named(file, name);
    dls_status st;
    dlsi_error_clear(error);
    if (i < 0)
        return dlsi_fail(error, DLS_E_NOT_FOUND,
                         DLSI_MSG("no device '{s}' in the roster; `dlshard roster` lists them"),
                         name, 0, 0, 0);
    if ((file->device[i].flags & DLS_DEVICE_REVOKED) != 0)
        return dlsi_fail(error, DLS_E_STATE, DLSI_MSG("'{s}' is revoked already"), name, 0, 0, 0);
    if (file->roster.group != root->group)
        return dlsi_fail(error, DLS_E_MISMATCH,
                         DLSI_MSG("the roster is of another group than the root key"), NULL, 0, 0,
                         0);
    file->device[i].flags |= DLS_DEVICE_REVOKED;
    st = dlsi_roster_sign(file, root, file->roster.count, error);
    if (st != DLS_OK) file->device[i].flags &= (uint8_t)~DLS_DEVICE_REVOKED;
    return st;
}
DLS_API dls_status dls_roster_save(const dls_roster_file *file, const char *path, bool force,
                                   dls_error *error) {
    dls_status st;
    dlsi_error_clear(error);
    st = dlsi_key_fresh(path, force, error);
    return st == DLS_OK ? dlsi_port_write_file(path, file->bytes, file->count, error) : st;
}

/* ---- Identity: what a device needs to join ----
   KEY.state: "DLSS", u32 boot count, u32 bytes of a coordinator's state, these, CRC-32C. */

#define DLSI_STATE_HEAD 12

DLSI_FN char *dlsi_state_path(const char *key_path) {
    const size_t n = strlen(key_path);
    char *path = (char *)DLS_MALLOC(n + 7);
    if (path == NULL) return NULL;
    memcpy(path, key_path, n);
    memcpy(path + n, ".state", 7);
    return path;
}
DLSI_FN dls_status dlsi_state_write(const dls_identity *me, const void *state, size_t bytes,
                                    dls_error *error) {
    char *path = dlsi_state_path(me->key_path);
    unsigned char *to = (unsigned char *)DLS_MALLOC(DLSI_STATE_HEAD + bytes + 4);
    dls_status st = DLS_E_MEMORY;
    if (path != NULL && to != NULL) {
        memcpy(to, "DLSS", 4);
        dlsi_store32(to + 4, me->boot);
        dlsi_store32(to + 8, (uint32_t)bytes);
        if (bytes > 0) memcpy(to + DLSI_STATE_HEAD, state, bytes);
        dlsi_store32(to + DLSI_STATE_HEAD + bytes, dls_crc32c(0, to, DLSI_STATE_HEAD + bytes));
        st = dlsi_key_write(path, to, DLSI_STATE_HEAD + bytes + 4, NULL);
    }
    if (path != NULL) DLS_FREE(path);
    if (to != NULL) DLS_FREE(to);
    return st == DLS_OK ? st
                        : dlsi_fail(error, st,
                                    DLSI_MSG("cannot write '{s}.state', where starts are counted; "
                                             "may you write there, is there room?"),
                                    me->key_path, 0, 0, 0);
}
/* A boot count must be greater at every start. The calendar helps when the state was lost. */
DLSI_FN dls_status dlsi_state_open(dls_identity *me, dls_error *error) {
    char *path = dlsi_state_path(me->key_path);
    void *bytes = NULL;
    const unsigned char *p;
    size_t n = 0;
    uint32_t past = 0;
    dls_status st = path != NULL ? dlsi_port_read_file(path, &bytes, &n, NULL) : DLS_E_MEMORY;
    if (path != NULL) DLS_FREE(path);
    p = (const unsigned char *)bytes;
    if (st == DLS_OK && (n < DLSI_STATE_HEAD + 4 || memcmp(p, "DLSS", 4) != 0 ||
                         dlsi_load32(p + 8) != n - DLSI_STATE_HEAD - 4 ||
                         dls_crc32c(0, p, n - 4) != dlsi_load32(p + n - 4)))
        st = DLS_E_CHECKSUM;
    if (st == DLS_OK) past = dlsi_load32(p + 4);
    if (st == DLS_OK && n > DLSI_STATE_HEAD + 4) {
        me->stored_bytes = n - DLSI_STATE_HEAD - 4;
        me->stored = DLS_MALLOC(me->stored_bytes);
        if (me->stored == NULL)
            st = DLS_E_MEMORY;
        else
            memcpy(me->stored, p + DLSI_STATE_HEAD, me->stored_bytes);
    }
    if (bytes != NULL) DLS_FREE(bytes);
    if (st != DLS_OK && st != DLS_E_NOT_FOUND)
        return dlsi_fail(error, st,
                         DLSI_MSG("'{s}.state' cannot be read or is damaged; a device that is no "
                                  "coordinator may do without: delete it"),
                         me->key_path, 0, 0, 0);
    me->boot = past < UINT32_MAX ? past + 1 : past;
    if (me->boot < dlsi_port_seconds()) me->boot = dlsi_port_seconds();
    return dlsi_state_write(me, me->stored, me->stored_bytes, error);
}
DLSI_FN bool dlsi_identity_store(void *user, const void *state, size_t bytes) {
    return dlsi_state_write((const dls_identity *)user, state, bytes, NULL) == DLS_OK;
}
/* The device's entry must be the one of its key. */
DLSI_FN dls_status dlsi_identity_check(const dls_identity *me, dls_error *error) {
    const dls_device *d = dls_roster_find(&me->roster.roster, me->keys.id);
    unsigned char own[32];
    if (me->roster.roster.group != me->keys.group)
        return dlsi_fail(error, DLS_E_MISMATCH, DLSI_MSG("'{s}' is the roster of another group"),
                         me->roster_path, 0, 0, 0);
    if (d == NULL)
        return dlsi_fail(error, DLS_E_NOT_FOUND,
                         DLSI_MSG("device {0} is not in '{s}'; is there a newer one?"),
                         me->roster_path, (int32_t)me->keys.id, 0, 0);
    if ((d->flags & DLS_DEVICE_REVOKED) != 0)
        return dlsi_fail(error, DLS_E_REFUSED, DLSI_MSG("device {0} is revoked in '{s}'"),
                         me->roster_path, (int32_t)me->keys.id, 0, 0);
    memset(own, 0, sizeof own);
    if (!me->keys.small) dls_x25519_public(own, me->keys.secret);
    if (memcmp(own, d->public_key, sizeof own) != 0)
        return dlsi_fail(error, DLS_E_MISMATCH,
                         DLSI_MSG("'{s}' has another key for device {0}; was it enrolled twice?"),
                         me->roster_path, (int32_t)me->keys.id, 0, 0);
    return DLS_OK;
}
DLS_API dls_status dls_identity_load(dls_identity *me, const char *key_path,
                                     const char *roster_path, dls_error *error) {
    dls_status st;
    memset(me, 0, sizeof *me);
    me->key_path = key_path;
    me->roster_path = roster_path;
    st = dls_keys_load(&me->keys, key_path, error);
    if (st == DLS_OK) st = dls_roster_load(&me->roster, roster_path, me->keys.root, error);
    if (st == DLS_OK) st = dlsi_identity_check(me, error);
    if (st == DLS_OK) st = dlsi_state_open(me, error);
    return st;
}
DLS_API void dls_identity_desc(dls_identity *me, dls_peer_desc *desc) {
    const int32_t most =
        dlsi_min_i32(me->roster.roster.count + DLSI_ROSTER_SPARE, DLS_ROSTER_DEVICES);
    desc->roster = &me->roster.roster;
    desc->id = me->keys.id;
    desc->secret = me->keys.small ? NULL : me->keys.secret;
    desc->psk = me->keys.psk;
    desc->root = me->keys.root;
    desc->boot = me->boot;
    desc->name = me->keys.name;
    if (desc->devices_max == 0) desc->devices_max = most;
    if (desc->sessions_max == 0) desc->sessions_max = desc->devices_max + 4;
    desc->store = dlsi_identity_store;
    desc->store_user = me;
    desc->stored = me->stored;
    desc->stored_bytes = me->stored_bytes;
}
DLS_API dls_status dls_identity_bind(dls_identity *me, dls_peer *peer, uint64_t now) {
    const size_t bytes = dls_roster_bytes(peer->desc.devices_max);
    me->space = DLS_MALLOC(bytes);
    if (me->space == NULL) return DLS_E_MEMORY;
    dls_peer_roster_space(peer, me->space, bytes);
    return dls_peer_roster(peer, me->roster.bytes, me->roster.count, now);
}
/* Whether the engine still sends or receives a roster: then none may move. */
DLSI_FN bool dlsi_identity_busy(const dls_peer *p) {
    int32_t i;
    for (i = 0; i < p->desc.ops_max; i++)
        if (p->op[i].kind != DLSI_OP_FREE && p->op[i].tag == DLSI_TAG_ROSTER) return true;
    return false;
}
DLS_API dls_status dls_identity_refresh(dls_identity *me, dls_peer *peer, uint64_t now,
                                        dls_error *error) {
    const bool came = me->space != NULL && peer->roster == (const unsigned char *)me->space;
    dls_roster_file file;
    dls_status st;
    dlsi_error_clear(error);
    if (dlsi_identity_busy(peer)) return DLS_OK;
    st = dls_roster_load(&file, me->roster_path, me->keys.root, error);
    if (came && (st != DLS_OK || file.roster.epoch < peer->epoch)) {
        dls_roster_free(&file);
        dlsi_error_clear(error);
        st = dlsi_port_write_file(me->roster_path, me->space, peer->roster_bytes, error);
        if (st == DLS_OK) st = dls_roster_load(&file, me->roster_path, me->keys.root, error);
    }
    if (st != DLS_OK) return st;
    if (file.roster.epoch < peer->epoch || (file.roster.epoch == peer->epoch && !came)) {
        dls_roster_free(&file);
        return DLS_OK;
    }
    st = dls_peer_roster(peer, file.bytes, file.count, now);
    if (peer->roster != (const unsigned char *)file.bytes) { /* it did not take it */
        dls_roster_free(&file);
        return dlsi_fail(error, st,
                         DLSI_MSG("the engine refuses '{s}': has it room for {0} more "
                                  "devices?"),
                         me->roster_path, DLSI_ROSTER_SPARE, 0, 0);
    }
    /* The engine copied the list it began with; the old bytes are no longer passed on. */
    dls_roster_free(&me->newer);
    me->newer = file;
    return st == DLS_OK ? st
                        : dlsi_fail(error, st, DLSI_MSG("this device is revoked in '{s}'"),
                                    me->roster_path, 0, 0, 0);
}
DLS_API void dls_identity_free(dls_identity *me) {
    dls_roster_free(&me->roster);
    dls_roster_free(&me->newer);
    if (me->stored != NULL) DLS_FREE(me->stored);
    if (me->space != NULL) DLS_FREE(me->space);
    dls_wipe(me, sizeof *me);
}

/* ---- Host ---- */

DLSI_FN void *dlsi_host_take(dls_host *h, size_t bytes) {
    void *mem = h->mems < (int32_t)(sizeof h->mem / sizeof *h->mem) ? dlsi_heap_take(bytes) : NULL;
    if (mem != NULL) h->mem[h->mems++] = mem;
    return mem;
}
DLSI_FN dls_status dlsi_host_engine(dls_host *h, const dls_host_desc *desc, dls_error *error) {
    dls_peer_desc d;
    dls_links_desc links;
    dls_status st;
    DLSI_ZERO(d);
    DLSI_ZERO(links);
    d.gateway = desc->gateway;
    d.timeout_us = desc->timeout_us;
    dls_identity_desc(&h->identity, &d);
    st = dls_peer_init(&h->peer, &d, dlsi_host_take(h, dls_peer_size(&d)), dls_peer_size(&d));
    if (st == DLS_OK) st = dls_identity_bind(&h->identity, h->peer, dls_now_us());
    if (st != DLS_OK)
        return dlsi_fail(error, st, DLSI_MSG("no memory for an engine, or '{s}.state' is damaged"),
                         desc->key, 0, 0, 0);
    links.peer = h->peer;
    links.fds_max =
        d.devices_max + 5 + 2 + DLS_HOST_SERIALS + 16; /* TCP, UDP, serial, the user's */
    return dls_links_init(&h->links, &links, dlsi_host_take(h, dls_links_size(&links)),
                          dls_links_size(&links), error);
}
DLSI_FN dls_status dlsi_host_udp(dls_host *h, const dls_host_desc *desc, dls_error *error) {
    dls_udp_desc d;
    dls_lan_desc lan_desc;
    dls_lan *lan;
    dls_status st;
    DLSI_ZERO(d);
    DLSI_ZERO(lan_desc);
    d.peer = h->peer;
    d.udp_port = desc->listen;
    st = dls_udp_init(&h->udp, &d, dlsi_host_take(h, dls_udp_size(&d)), dls_udp_size(&d), error);
    if (st != DLS_OK) return st;
    (void)dls_links_add(h->links, dls_udp_link(h->udp));
    if (desc->connect != NULL) st = dls_udp_connect(h->udp, desc->connect, error);
    if (st != DLS_OK || desc->no_lan) return st;
    lan_desc.udp = h->udp;
    lan_desc.port = desc->lan_port;
    st = dls_lan_init(&lan, &lan_desc, dlsi_host_take(h, dls_lan_size(&lan_desc)),
                      dls_lan_size(&lan_desc), error);
    if (st != DLS_OK) return st;
    h->find = dls_lan_find(lan);
    return dls_links_add(h->links, dls_lan_link(lan));
}
DLSI_FN dls_status dlsi_host_tcp(dls_host *h, const dls_host_desc *desc, dls_error *error) {
    static const char any[] = "0.0.0.0:";
    char text[sizeof any + 24];
    dls_tcp_desc d;
    dlsi_text t;
    dls_status st;
    if (desc->listen == 0 && desc->tcp == NULL) return DLS_OK;
    DLSI_ZERO(d);
    t.buf = text;
    t.used = 0;
    t.size = sizeof text;
    dlsi_text_str(&t, any);
    dlsi_text_int(&t, desc->listen);
    text[t.used] = '\0';
    d.peer = h->peer;
    d.listen = desc->listen != 0 ? text : NULL;
    st = dls_tcp_init(&h->tcp, &d, dlsi_host_take(h, dls_tcp_size(&d)), dls_tcp_size(&d), error);
    if (st != DLS_OK && error != NULL) error->name = "this device"; /* text goes out of scope */
    if (st == DLS_OK) st = dls_links_add(h->links, dls_tcp_link(h->tcp));
    return st == DLS_OK && desc->tcp != NULL ? dls_tcp_connect(h->tcp, desc->tcp, error) : st;
}
/* One of the list, "PATH[:BAUD][=ID]" of n bytes. */
DLSI_FN dls_status dlsi_host_serial(dls_host *h, const char *text, size_t n, dls_error *error) {
    char *path = (char *)dlsi_host_take(h, n + 1), *id, *baud;
    const char *at;
    dls_serial_desc d;
    dls_serial *s;
    uint32_t value = 0;
    dls_status st;
    if (path == NULL)
        return dlsi_fail(error, DLS_E_MEMORY, DLSI_MSG("no memory, or over {0} serial lines"), NULL,
                         DLS_HOST_SERIALS, 0, 0);
    memcpy(path, text, n);
    path[n] = '\0';
    DLSI_ZERO(d);
    d.peer = h->peer;
    d.path = path;
    id = strrchr(path, '=');
    at = id != NULL ? id + 1 : "0";
    d.call = id != NULL;
    if (!dlsi_addr_number(&at, 999999, &d.id) || *at != '\0')
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("'{s}': no device id after ="), path, 0, 0, 0);
    if (id != NULL) *id = '\0';
    baud = strncmp(path, "tcp:", 4) != 0 ? strrchr(path, ':') : NULL;
    at = baud != NULL ? baud + 1 : "0";
    while (*at >= '0' && *at <= '9' && value < 100000000u)
        value = value * 10 + (uint32_t)(*at++ - '0');
    if (*at != '\0')
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("'{s}': no baud rate after :"), path, 0, 0, 0);
    if (baud != NULL) *baud = '\0';
    d.baud = (int32_t)value;
    st =
        dls_serial_init(&s, &d, dlsi_host_take(h, dls_serial_size(&d)), dls_serial_size(&d), error);
    return st == DLS_OK ? dls_links_add(h->links, dls_serial_link(s)) : st;
}
DLS_API dls_status dls_host_open(dls_host *host, const dls_host_desc *desc, dls_error *error) {
    const char *s = desc->serial;
    dls_status st;
    memset(host, 0, sizeof *host);
    if (desc->key == NULL || desc->roster == NULL) {
        dlsi_error_clear(error);
        return dlsi_fail(error, DLS_E_ARG, DLSI_MSG("a key file and a roster are needed"), NULL, 0,
                         0, 0);
    }
    st = dls_identity_load(&host->identity, desc->key, desc->roster, error);
    if (st == DLS_OK) st = dlsi_host_engine(host, desc, error);
    if (st == DLS_OK) st = dlsi_host_udp(host, desc, error);
    if (st == DLS_OK) st = dlsi_host_tcp(host, desc, error);
    while (st == DLS_OK && s != NULL && *s != '\0') {
        size_t n = 0;
        while (s[n] != ',' && s[n] != '\0') n++;
        st = dlsi_host_serial(host, s, n, error);
        s += n + (s[n] == ',' ? 1 : 0);
    }
    host->refreshed = dls_now_us();
    return st;
}
DLS_API dls_status dls_host_poll(dls_host *host, uint64_t timeout_us, void (*lock)(void *),
                                 void (*unlock)(void *), void *user, dls_error *error) {
    uint64_t now;
    dls_status st = DLS_OK;
    dls_links_poll(host->links, timeout_us, lock, unlock, user);
    now = dls_now_us();
    if (now - host->refreshed < 1000000u) return DLS_OK;
    if (lock != NULL) lock(user);
    host->refreshed = now;
    st = dls_identity_refresh(&host->identity, host->peer, now, error);
    if (unlock != NULL) unlock(user);
    return st;
}
DLSI_FN void dlsi_host_say(dls_host *h, const dls_peer_event *e, dlsi_text *t) {
    static const char *const word[] = {"up ", "lost ", "left ", "view ", "roster "};
    dls_view v;
    int32_t i;
    dlsi_text_str(t, word[e->type - DLS_PEER_UP]);
    if (e->type == DLS_PEER_VIEW) {
        dls_peer_view(h->peer, &v);
        dlsi_text_int(t, v.number);
        for (i = 0; i < v.count; i++) {
            dlsi_text_str(t, i == 0 ? ": " : ",");
            dlsi_text_int(t, dls_peer_id(h->peer, v.rank[i]));
        }
    } else if (e->type == DLS_PEER_ROSTER) {
        dlsi_text_int(t, h->peer->epoch);
    } else {
        dlsi_text_int(t, dls_peer_id(h->peer, e->rank));
        dlsi_text_str(t, " ");
        dlsi_text_str(t, dls_peer_name(h->peer, e->rank));
    }
    if (e->type != DLS_PEER_LOST || e->status == DLS_OK) return;
    dlsi_text_str(t, ": ");
    dlsi_text_str(t, dls_status_text(e->status));
}
DLS_API bool dls_host_next(dls_host *host, dls_peer_event *event, char *text, size_t bytes) {
    const uint64_t now = dls_now_us();
    dls_status what = DLS_OK;
    uint32_t id;
    dlsi_text t;
    t.buf = text;
    t.used = 0;
    t.size = bytes;
    if (dls_peer_next_event(host->peer, event)) {
        dlsi_host_say(host, event, &t);
    } else if (host->find != NULL && dls_find_next(host->find, &id, &what, now)) {
        memset(event, 0, sizeof *event);
        event->rank = dls_peer_rank_of(host->peer, id);
        event->status = what;
        dlsi_text_str(&t, "note ");
        (void)dls_find_explain(host->find, id, text + t.used, bytes - t.used, now);
        return true;
    } else {
        return false;
    }
    text[t.used] = '\0';
    return true;
}
DLS_API void dls_host_close(dls_host *host) {
    const uint64_t start = dls_now_us();
    if (host->links != NULL) {
        dls_peer_leave(host->peer);
        while (dls_peer_up(host->peer) > 1 && dls_now_us() - start < 300000)
            dls_links_poll(host->links, 20000, NULL, NULL, NULL);
        dls_links_close(host->links);
    }
    if (host->peer != NULL) dls_peer_close(host->peer);
    while (host->mems > 0) dlsi_heap_give(host->mem[--host->mems]);
    dls_identity_free(&host->identity);
    memset(host, 0, sizeof *host);
}
#endif

/* ------------------------------------------------------------------------------------------------
   >>node.impl  deps: config base port tensor par net train wire peer coll job link node.api
   The caller's thread computes; a second one moves bytes, so that heartbeats go on. They share the
   engine under one lock. Without threads the caller moves bytes while it waits. */
#if DLS_ENABLE_SOCKETS && DLS_ENABLE_HEAP && DLS_ENABLE_TRAIN

struct dls_node {
    dls_node_desc desc;
    int32_t count;
    dls_peer *peer;
    dls_tcp *tcp;
    dls_coll coll;
    void *mem[3]; /* engine, driver, staging */
    size_t staging;
    dls_pool *pool;
    dls_error error;
    char text[320];
    int32_t lost; /* rank that was lost, -1: none */
    dls_status lost_status;
    bool settled;
    bool closing;    /* under the lock */
    uint32_t posted; /* ops that the other thread was told of */
    bool threaded;
#if DLS_ENABLE_THREADS
    pthread_mutex_t lock;
    pthread_cond_t moved; /* the engine's state may have changed */
    pthread_t thread;
#endif
};

#if DLS_ENABLE_THREADS
DLSI_FN void dlsi_node_lock(void *user) {
    dls_node *n = (dls_node *)user;
    if (n->threaded) pthread_mutex_lock(&n->lock);
}
DLSI_FN void dlsi_node_unlock(void *user) {
    dls_node *n = (dls_node *)user;
    if (!n->threaded) return;
    pthread_cond_broadcast(&n->moved);
    pthread_mutex_unlock(&n->lock);
}
DLSI_FN void *dlsi_node_main(void *user) {
    dls_node *n = (dls_node *)user;
    bool closing = false;
    while (!closing) {
        dls_tcp_poll(n->tcp, 1000000, dlsi_node_lock, dlsi_node_unlock, n);
        pthread_mutex_lock(&n->lock);
        closing = n->closing;
        pthread_mutex_unlock(&n->lock);
    }
    return NULL;
}
/* Waits, with the lock held, until bytes moved or a while passed. */
DLSI_FN void dlsi_node_wait(dls_node *n) {
    struct timespec t;
    if (n->posted != n->peer->order) { /* new ops: the other thread may be asleep in poll */
        n->posted = n->peer->order;
        dls_tcp_wake(n->tcp);
    }
    (void)clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += 20000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    (void)pthread_cond_timedwait(&n->moved, &n->lock, &t);
}
DLSI_FN bool dlsi_node_start(dls_node *n) {
    if (pthread_mutex_init(&n->lock, NULL) != 0) return false;
    n->threaded = true; /* the thread reads it */
    if (pthread_cond_init(&n->moved, NULL) == 0) {
        if (pthread_create(&n->thread, NULL, dlsi_node_main, n) == 0) return true;
        pthread_cond_destroy(&n->moved);
    }
    pthread_mutex_destroy(&n->lock);
    n->threaded = false;
    return false;
}
DLSI_FN void dlsi_node_stop(dls_node *n) {
    if (!n->threaded) return;
    pthread_mutex_lock(&n->lock);
    n->closing = true;
    pthread_mutex_unlock(&n->lock);
    dls_tcp_wake(n->tcp);
    pthread_join(n->thread, NULL);
    pthread_cond_destroy(&n->moved);
    pthread_mutex_destroy(&n->lock);
    n->threaded = false;
}
#else
DLSI_FN void dlsi_node_lock(void *user) { (void)user; }
DLSI_FN void dlsi_node_unlock(void *user) { (void)user; }
DLSI_FN void dlsi_node_wait(dls_node *n) { dls_tcp_poll(n->tcp, 20000, NULL, NULL, NULL); }
DLSI_FN bool dlsi_node_start(dls_node *n) {
    (void)n;
    return true;
}
DLSI_FN void dlsi_node_stop(dls_node *n) { (void)n; }
#endif

/* A loss makes every peer give up, and its leaving looks like another loss to the rest. So each
   holds still for a while, with the lock held but while waiting, until all have seen the first. */
#define DLSI_NODE_SETTLE_US 50000
DLSI_FN bool dlsi_node_settle(dls_node *n) {
    const uint64_t start = dls_now_us();
    if (n->peer == NULL || n->settled || !dlsi_peer_any_lost(n->peer)) return true;
    while (dls_now_us() - start < DLSI_NODE_SETTLE_US) dlsi_node_wait(n);
    n->settled = true;
    return true;
}
/* Takes events; remembers the first peer that was lost. */
DLSI_FN void dlsi_node_events(dls_node *n) {
    dls_peer_event e;
    while (n->peer != NULL && dls_peer_next_event(n->peer, &e)) {
        if (e.type == DLS_PEER_UP || n->lost >= 0) continue;
        n->lost = e.rank;
        n->lost_status = e.type == DLS_PEER_LEFT ? DLS_E_PEER : e.status;
    }
}
DLSI_FN dls_status dlsi_node_fail(dls_node *n, dls_status st) {
    if (st == DLS_OK) return st;
    dlsi_node_lock(n);
    dlsi_node_events(n);
    dlsi_node_unlock(n);
    if (n->lost >= 0 && (st == DLS_E_PEER || st == DLS_E_TIMEOUT))
        return dlsi_fail(
            &n->error, DLS_E_PEER,
            n->lost_status == DLS_E_TIMEOUT
                ? DLSI_MSG("peer {0} was silent too long; is its device asleep?")
                : DLSI_MSG("peer {0} went away; start it again and resume from a checkpoint"),
            NULL, n->lost, 0, 0);
    return st;
}

DLSI_FN dls_status dlsi_node_open(dls_node *n) {
    const char *s;
    dls_pool_desc pool;
    dls_peer_desc peer;
    dls_tcp_desc tcp;
    uint64_t start;
    dls_status st = DLS_OK;
    int32_t up;
    for (s = n->desc.peers, n->count = 1; s != NULL && *s != '\0'; s++) n->count += *s == ',';
    if (n->desc.rank < 0 || n->desc.rank >= n->count || n->count > 1024)
        return dlsi_fail(&n->error, DLS_E_ARG,
                         DLSI_MSG("rank {0} is not one of the {1} addresses (1024 at most)"), NULL,
                         n->desc.rank, n->count, 0);
    if (n->desc.threads < 0 || n->desc.threads > DLS_THREADS_MAX || n->desc.join_ms < 0 ||
        n->desc.timeout_ms < 0)
        return dlsi_fail(&n->error, DLS_E_ARG,
                         DLSI_MSG("threads {0}, join_ms {1}, timeout_ms {2}: none may be below 0"),
                         NULL, n->desc.threads, n->desc.join_ms, n->desc.timeout_ms);
    DLSI_ZERO(pool);
    pool.threads = n->desc.threads;
    n->pool = dls_pool_create(&pool);
    if (n->pool == NULL)
        return dlsi_fail(&n->error, DLS_E_MEMORY, DLSI_MSG("cannot start {0} threads"), NULL,
                         n->desc.threads, 0, 0);
    if (n->count == 1) /* nothing to stage */
        st = dls_coll_init(&n->coll, NULL, 0, 1, n->text, sizeof n->text);
    if (st != DLS_OK || n->desc.peers == NULL) return st;
    DLSI_ZERO(peer);
    peer.rank = n->desc.rank;
    peer.size = n->count;
    peer.name = n->desc.name;
    peer.group = (uint32_t)(dls_hash64(1, n->desc.peers, strlen(n->desc.peers)) & 0xFFFFFFFFu);
    peer.boot = dlsi_port_seconds();
    peer.timeout_us = (uint64_t)dlsi_or(n->desc.timeout_ms, 10000) * 1000u;
    n->mem[0] = dlsi_heap_take(dls_peer_size(&peer));
    st = n->mem[0] != NULL ? dls_peer_init(&n->peer, &peer, n->mem[0], dls_peer_size(&peer))
                           : DLS_E_MEMORY;
    if (st != DLS_OK)
        return dlsi_fail(&n->error, st, DLSI_MSG("no memory for an engine of {0} peers"), NULL,
                         n->count, 0, 0);
    DLSI_ZERO(tcp);
    tcp.peer = n->peer;
    tcp.rank = n->desc.rank;
    tcp.size = n->count;
    tcp.peers = n->desc.peers;
    n->mem[1] = dlsi_heap_take(dls_tcp_size(&tcp));
    if (n->mem[1] == NULL)
        return dlsi_fail(&n->error, DLS_E_MEMORY, DLSI_MSG("no memory for the driver"), NULL, 0, 0,
                         0);
    st = dls_tcp_init(&n->tcp, &tcp, n->mem[1], dls_tcp_size(&tcp), &n->error);
    if (st != DLS_OK) return st;
    if (!dlsi_node_start(n))
        return dlsi_fail(&n->error, DLS_E_MEMORY, DLSI_MSG("cannot start a thread"), NULL, 0, 0, 0);
    start = dls_now_us();
    dlsi_node_lock(n);
    while ((up = dls_peer_up(n->peer)) < n->count) {
        if (dls_now_us() - start > (uint64_t)dlsi_or(n->desc.join_ms, 10000) * 1000u) break;
        dlsi_node_wait(n);
    }
    for (st = DLS_OK; up < n->count && st == DLS_OK && n->lost < n->count;
         n->lost++) /* name one that is missing */
        if (n->lost >= 0 && !dls_peer_is_up(n->peer, n->lost))
            st = dlsi_fail(&n->error, DLS_E_TIMEOUT,
                           DLSI_MSG("peer {0} of '{s}' did not join in {1} ms; is it running, with "
                                    "the same addresses and version?"),
                           n->desc.peers, n->lost, dlsi_or(n->desc.join_ms, 10000), 0);
    n->lost = -1;
    dlsi_node_unlock(n);
    return st;
}
DLS_API dls_status dls_node_create(dls_node **node, const dls_node_desc *desc) {
    dls_node *n = (dls_node *)dlsi_heap_take(sizeof *n);
    dls_status st;
    *node = n;
    if (n == NULL) return DLS_E_MEMORY;
    memset(n, 0, sizeof *n);
    n->desc = *desc;
    n->lost = -1;
    dlsi_error_clear(&n->error);
    st = dlsi_node_open(n);
    return dlsi_fail(&n->error, st, DLSI_MSG("the node could not be made"), NULL, 0, 0, 0);
}
DLS_API void dls_node_destroy(dls_node *node) {
    int32_t i;
    if (node == NULL) return;
    if (node->peer != NULL && node->tcp != NULL) { /* goodbyes go out before the links close */
        const uint64_t start = dls_now_us();
        dlsi_node_lock(node);
        dls_peer_leave(node->peer);
        dls_tcp_wake(node->tcp);
        while (dls_peer_up(node->peer) > 1 && dls_now_us() - start < 200000) dlsi_node_wait(node);
        dlsi_node_unlock(node);
    }
    dlsi_node_stop(node);
    dls_tcp_close(node->tcp);
    for (i = 0; i < 3; i++) dlsi_heap_give(node->mem[i]);
    dls_pool_destroy(node->pool);
    dlsi_heap_give(node);
}
DLS_API const char *dls_node_explain(dls_node *node) {
    if (node == NULL) return dls_status_text(DLS_E_MEMORY);
    return dls_error_text(&node->error, node->text, sizeof node->text);
}
DLS_API int32_t dls_node_rank(const dls_node *node) { return node->desc.rank; }
DLS_API int32_t dls_node_count(const dls_node *node) { return node->count; }
DLS_API const char *dls_node_name(dls_node *node, int32_t rank) {
    if (node->peer == NULL) return node->desc.name != NULL ? node->desc.name : "peer";
    return dls_peer_name(node->peer, rank);
}

/* Staging for all-reduces of up to `bytes`. */
DLSI_FN dls_status dlsi_node_stage(dls_node *n, size_t bytes) {
    if (n->count == 1 || (n->mem[2] != NULL && bytes <= n->staging)) return DLS_OK;
    dlsi_heap_give(n->mem[2]);
    n->mem[2] = dlsi_heap_take(dls_coll_size(n->count, bytes));
    n->staging = bytes;
    if (n->mem[2] == NULL)
        return dlsi_fail(&n->error, DLS_E_MEMORY, DLSI_MSG("no memory to exchange gradients"), NULL,
                         0, 0, 0);
    {
        const uint32_t sequence = n->coll.sequence;
        const dls_status st = dls_coll_init(&n->coll, n->peer, n->desc.rank, n->count, n->mem[2],
                                            dls_coll_size(n->count, bytes));
        n->coll.sequence = sequence;
        return st;
    }
}
DLSI_FN dls_status dlsi_node_reduce(dls_node *n, void *data, size_t count, dls_reduce reduce) {
    dls_status st;
    dlsi_node_lock(n);
    (void)dlsi_node_settle(n);
    st = dls_coll_allreduce(&n->coll, data, count, reduce);
    while (st == DLS_OK && dlsi_node_settle(n) && !dls_coll_poll(&n->coll, &st)) dlsi_node_wait(n);
    dlsi_node_unlock(n);
    return dlsi_node_fail(n, st);
}
/* All peers must bring the same number: the greatest of its bytes and of their complements agree.
   */
DLSI_FN dls_status dlsi_node_agree(dls_node *n, uint64_t value) {
    unsigned char bytes[16];
    dls_status st;
    dlsi_store64(bytes, value);
    dlsi_store64(bytes + 8, ~value);
    st = dlsi_node_reduce(n, bytes, sizeof bytes, DLS_REDUCE_MAX_U8);
    if (st != DLS_OK || (dlsi_load64(bytes) == value && dlsi_load64(bytes + 8) == ~value))
        return st;
    return dlsi_fail(
        &n->error, DLS_E_MISMATCH,
        DLSI_MSG("peers do not make the same call: network, data, shares or settings differ"), NULL,
        0, 0, 0);
}

/* ---- Fit ---- */

typedef struct dlsi_node_fit {
    dls_node *node;
    dls_job job;
    dls_node_share *share; /* of all ranks */
    double seconds;
    dls_progress_fn progress; /* the caller's */
    void *user;
} dlsi_node_fit;
DLSI_FN dls_status dlsi_node_step(void *user, dlsi_fit *f, int32_t n, dls_step_stats *stats) {
    dlsi_node_fit *nf = (dlsi_node_fit *)user;
    const uint64_t start = dls_now_us();
    dls_status st;
    bool over = false;
    dlsi_error_clear(&f->train->exec->error);
    st = dls_job_begin(&nf->job, f->data, &f->d.augment, f->index, n);
    nf->seconds += (double)(dls_now_us() - start) * 1e-6;
    if (st != DLS_OK) return st;
    /* Computing again after a redo happens under the lock, while bytes wait; it is rare. */
    dlsi_node_lock(nf->node);
    while (!over) {
        over = dlsi_node_settle(nf->node) && dls_job_poll(&nf->job, &st, stats);
        if (!over) dlsi_node_wait(nf->node);
    }
    dlsi_node_unlock(nf->node);
    if (st == DLS_OK && nf->job.stop)
        return dlsi_fail(&nf->node->error, DLS_E_STOPPED,
                         DLSI_MSG("rank 0 asked to stop; all did, after the same step"), NULL, 0, 0,
                         0);
    return dlsi_node_fail(nf->node, st);
}
/* Rank 0 reports; its wish to stop goes round with the next step. */
DLSI_FN bool dlsi_node_progress(void *user, const dls_progress *progress) {
    dlsi_node_fit *nf = (dlsi_node_fit *)user;
    if (nf->progress != NULL && nf->node->desc.rank == 0 && !nf->progress(nf->user, progress))
        nf->job.stop = true;
    return true;
}
DLSI_FN uint64_t dlsi_node_call_hash(const dls_node *n, const dls_net *net, const dls_data *data,
                                     const dls_fit_desc *d) {
    uint64_t h = dls_net_hash(net);
    int32_t i;
    const dls_optim_desc *o = &d->train.optim;
    const dls_loss_desc *l = &d->train.loss;
    const dls_augment *a = &d->augment;
    const int64_t number[] = {data->count,
                              (int64_t)dlsi_count(data->shape),
                              data->classes,
                              d->train.batch,
                              d->train.shards,
                              d->epochs,
                              d->steps,
                              (int64_t)d->train.seed,
                              d->resume != NULL,
                              d->train.strict,
                              (int64_t)o->kind,
                              o->nesterov,
                              o->decay_all,
                              (int64_t)o->schedule,
                              o->warmup_steps,
                              o->total_steps,
                              o->step_every,
                              (int64_t)l->kind,
                              l->class_weights != NULL,
                              a->shift,
                              a->flip,
                              a->crop,
                              a->cutout};
    const float real[] = {o->lr,          o->momentum,  o->weight_decay, o->beta1,  o->beta2,
                          o->eps,         o->clip_norm, o->gamma,        o->lr_min, l->smoothing,
                          l->temperature, l->alpha,     a->mixup};
    for (i = 0; i < (int32_t)(sizeof number / sizeof *number); i++)
        h = dlsi_hash_word(h, (uint64_t)number[i]);
    for (i = 0; i < (int32_t)(sizeof real / sizeof *real); i++)
        h = dlsi_hash_word(h, dlsi_float_bits(real[i]));
    for (i = 0; n->desc.shares != NULL && i < n->count; i++)
        h = dlsi_hash_word(h, (uint32_t)n->desc.shares[i]);
    return dls_hash64_reals(h, net->params, net->param_count);
}
/* What every rank did, to all: each fills its own numbers, the greatest are kept. */
DLSI_FN dls_status dlsi_node_shares(dls_node *n, const dlsi_node_fit *nf, dls_node_share *share) {
    int32_t *all = (int32_t *)DLS_MALLOC((size_t)n->count * 2 * sizeof *all), i;
    dls_status st;
    if (all == NULL) return DLS_E_MEMORY;
    memset(all, 0, (size_t)n->count * 2 * sizeof *all);
    all[2 * n->desc.rank] = (int32_t)dlsi_min_size((size_t)nf->job.samples, 0x7FFFFFFF);
    all[2 * n->desc.rank + 1] = (int32_t)(nf->seconds * 1e3);
    st = dlsi_node_reduce(n, all, (size_t)n->count * 2, DLS_REDUCE_SUM_I32);
    for (i = 0; i < n->count && share != NULL; i++) {
        share[i].samples = all[2 * i];
        share[i].seconds = (double)all[2 * i + 1] * 1e-3;
    }
    DLS_FREE(all);
    return st;
}
DLSI_FN dls_status dlsi_node_fit_open(dls_node *n, dls_net *net, const dls_data *data,
                                      dls_fit_desc *d, dlsi_fit *f, dlsi_node_fit *nf) {
    dls_exact e;
    dls_status st = dlsi_net_need_params(net, true);
    d->train.shards = dlsi_or(d->train.shards, 8);
    d->train.pool = n->pool;
    nf->node = n;
    nf->progress = d->progress;
    nf->user = d->user;
    d->progress = dlsi_node_progress;
    d->user = nf;
    if (st == DLS_OK) st = dlsi_fit_open(f, net, data, d);
    if (st == DLS_OK && d->resume != NULL) st = dlsi_fit_resume(f->train, d->resume);
    if (st != DLS_OK) {
        const dls_error *why = f->train != NULL && f->train->exec->error.status != DLS_OK
                                   ? &f->train->exec->error
                                   : dls_net_error(net);
        if (why->status == st) n->error = *why; /* else it is of another call */
        return st;
    }
    dls_train_exact(f->train, &e);
    nf->job.train = f->train;
    nf->job.coll = &n->coll;
    nf->job.shares = n->desc.shares;
    return dlsi_node_stage(n, dlsi_max_size(e.sums_count * 4, (size_t)n->count * 8));
}
DLS_API dls_status dls_node_fit(dls_node *node, dls_net *net, const dls_data *data,
                                const dls_fit_desc *desc, dls_fit_report *report,
                                dls_node_share *share) {
    dls_fit_desc d = *desc;
    dlsi_fit f;
    dlsi_node_fit nf;
    dls_fit_report own;
    dls_status st;
    if (report == NULL) report = &own;
    memset(report, 0, sizeof *report);
    DLSI_ZERO(f);
    DLSI_ZERO(nf);
    dlsi_error_clear(&node->error);
    st = dlsi_node_fit_open(node, net, data, &d, &f, &nf);
    if (st == DLS_OK) st = dlsi_node_agree(node, dlsi_node_call_hash(node, net, data, &d));
    if (st == DLS_OK) st = dlsi_fit_loop(&f, dlsi_node_step, &nf, node->desc.rank == 0, report);
    if (st == DLS_OK) st = dlsi_node_agree(node, report->state_hash);
    if (st == DLS_OK) st = dlsi_node_shares(node, &nf, share);
    if (st != DLS_OK && node->error.status == DLS_OK && f.train != NULL)
        node->error = f.train->exec->error;
    (void)dlsi_fail(&node->error, st, DLSI_MSG("training together failed"), NULL, 0, 0, 0);
    dlsi_fit_close(&f);
    return st;
}

/* ---- Staged inference ---- */

#define DLSI_STAGE_VALUES 8
typedef struct dlsi_stage {
    dls_node *node;
    dls_exec *exec;
    int32_t in, out; /* values that come in, go out */
    dls_val in_val[DLSI_STAGE_VALUES], out_val[DLSI_STAGE_VALUES];
    unsigned char *
        sending[2][DLSI_STAGE_VALUES]; /* copies of what goes out, so that the next batch can run */
    int32_t op[2][DLSI_STAGE_VALUES];
} dlsi_stage;
DLSI_FN size_t dlsi_stage_bytes(const dlsi_stage *s, dls_val v, int32_t n) {
    return (size_t)n * dlsi_count(dls_net_shape(s->exec->net, v)) *
           dls_dtype_bytes((dls_dtype)s->exec->net->node[v].dtype);
}
DLSI_FN dls_status dlsi_stage_wait(dls_node *n, int32_t *op) {
    dls_status st = DLS_OK;
    if (*op < 0) return DLS_OK;
    dlsi_node_lock(n);
    while (dlsi_node_settle(n) && !dls_peer_op_done(n->peer, *op, &st)) dlsi_node_wait(n);
    dlsi_node_unlock(n);
    *op = -1;
    return dlsi_node_fail(n, st);
}
DLSI_FN dls_status dlsi_stage_recv(dls_node *n, int32_t rank, uint32_t tag, void *to,
                                   size_t bytes) {
    int32_t op;
    dlsi_node_lock(n);
    op = dls_peer_recv(n->peer, rank, tag, to, bytes);
    dlsi_node_unlock(n);
    return op < 0 ? DLS_E_LIMIT : dlsi_stage_wait(n, &op);
}
DLSI_FN dls_status dlsi_stage_send(dls_node *n, int32_t rank, uint32_t tag, const void *from,
                                   size_t bytes, int32_t *op) {
    dlsi_node_lock(n);
    *op = dls_peer_send(n->peer, rank, tag, from, bytes);
    dlsi_node_unlock(n);
    if (n->threaded) dls_tcp_wake(n->tcp);
    return *op < 0 ? DLS_E_LIMIT : DLS_OK;
}
/* Passes on what batch b made: to the next stage, or the outputs to rank 0. */
DLSI_FN dls_status dlsi_stage_pass(dlsi_stage *s, int32_t b, int32_t n) {
    const bool last = s->node->desc.rank == s->node->count - 1;
    const int32_t to = last ? 0 : s->node->desc.rank + 1;
    dls_status st = DLS_OK;
    int32_t k;
    for (k = 0; k < s->out && st == DLS_OK; k++) {
        unsigned char *copy = s->sending[b % 2][k];
        st = dlsi_stage_wait(s->node, &s->op[b % 2][k]); /* of two batches ago */
        if (st != DLS_OK) break;
        memcpy(copy, dls_exec_value(s->exec, s->out_val[k]), dlsi_stage_bytes(s, s->out_val[k], n));
        st = dlsi_stage_send(s->node, to, 0x80000000u | (uint32_t)b << 4 | (uint32_t)k, copy,
                             dlsi_stage_bytes(s, s->out_val[k], n), &s->op[b % 2][k]);
    }
    return st;
}
/* Batch b of n samples: gets its inputs, runs, passes on. Rank 0 is given samples, others receive.
   */
DLSI_FN dls_status dlsi_stage_run(dlsi_stage *s, const dls_data *data, int32_t *index, int32_t b,
                                  int32_t first, int32_t n) {
    dls_status st = DLS_OK;
    int32_t k;
    if (s->node->desc.rank == 0) {
        for (k = 0; k < n; k++) index[k] = first + k;
        st = dls_data_fetch(data, NULL, 0, index, n, dls_exec_input(s->exec, 0), NULL, NULL, NULL,
                            NULL);
    }
    for (k = 0; s->node->desc.rank > 0 && k < s->in && st == DLS_OK; k++)
        st = dlsi_stage_recv(s->node, s->node->desc.rank - 1,
                             0x80000000u | (uint32_t)b << 4 | (uint32_t)k,
                             dls_exec_input(s->exec, k), dlsi_stage_bytes(s, s->in_val[k], n));
    if (st == DLS_OK) st = dls_exec_forward(s->exec, n);
    return st == DLS_OK && s->node->count > 1 ? dlsi_stage_pass(s, b, n) : st;
}
DLSI_FN dls_status dlsi_stage_open(dlsi_stage *s, dls_node *node, dls_net *net, int32_t batch,
                                   const int32_t *at) {
    dls_exec_desc d;
    int32_t k, b;
    const bool last = node->desc.rank == node->count - 1;
    memset(s, 0, sizeof *s);
    s->node = node;
    for (b = 0; b < 2; b++)
        for (k = 0; k < DLSI_STAGE_VALUES; k++) s->op[b][k] = -1;
    s->in = node->desc.rank > 0
                ? dls_net_cut(net, at[node->desc.rank], s->in_val, DLSI_STAGE_VALUES)
                : 0;
    s->out = last ? 1 : dls_net_cut(net, at[node->desc.rank + 1], s->out_val, DLSI_STAGE_VALUES);
    if (last) s->out_val[0] = dls_net_output_of(net);
    if (s->in < 0 || s->out < 0) return DLS_E_ARG;
    DLSI_ZERO(d);
    d.batch = batch;
    d.first = at[node->desc.rank];
    d.last = at[node->desc.rank + 1];
    d.pool = node->pool;
    s->exec = dls_exec_create(net, &d);
    if (s->exec == NULL) return DLS_E_MEMORY;
    for (k = 0; k < s->in; k++)
        if (dls_exec_input_val(s->exec, k) != s->in_val[k])
            return DLS_E_ARG; /* a value only passes through: not yet */
    for (b = 0; b < 2 && node->count > 1; b++) {
        for (k = 0; k < s->out; k++) {
            s->sending[b][k] =
                (unsigned char *)DLS_MALLOC(dlsi_stage_bytes(s, s->out_val[k], batch));
            if (s->sending[b][k] == NULL || dls_exec_value(s->exec, s->out_val[k]) == NULL)
                return DLS_E_MEMORY;
        }
    }
    return DLS_OK;
}
DLSI_FN void dlsi_stage_close(dlsi_stage *s) {
    int32_t b, k;
    if (s->node == NULL) return; /* never opened */
    for (b = 0; b < 2; b++) {
        for (k = 0; k < DLSI_STAGE_VALUES; k++) {
            if (s->op[b][k] >= 0) {
                dlsi_node_lock(s->node);
                dls_peer_op_drop(s->node->peer, s->op[b][k]);
                dlsi_node_unlock(s->node);
            }
            if (s->sending[b][k] != NULL) DLS_FREE(s->sending[b][k]);
        }
    }
    dls_exec_destroy(s->exec);
}
/* All batches. Rank 0 collects outputs as they come, at most `count` batches behind. */
DLSI_FN dls_status dlsi_stage_all(dlsi_stage *s, const dls_data *data, int32_t batch,
                                  dls_real *outputs) {
    const int32_t batches = dlsi_ceil_div(data->count, batch), ranks = s->node->count;
    const size_t out = dlsi_count(dls_net_shape(s->exec->net, dls_net_output_of(s->exec->net)));
    int32_t *index = (int32_t *)DLS_MALLOC((size_t)batch * sizeof *index), b, k, turn;
    dls_status st = index != NULL ? DLS_OK : DLS_E_MEMORY;
    for (turn = 0; turn < batches + (s->node->desc.rank == 0 ? ranks : 0) && st == DLS_OK; turn++) {
        b = turn - ranks; /* the batch whose outputs rank 0 takes now */
        if (turn < batches)
            st = dlsi_stage_run(s, data, index, turn, turn * batch,
                                dlsi_min_i32(batch, data->count - turn * batch));
        if (ranks == 1 && turn < batches && st == DLS_OK)
            memcpy(outputs + (size_t)turn * (size_t)batch * out, dls_exec_output(s->exec),
                   (size_t)dlsi_min_i32(batch, data->count - turn * batch) * out *
                       sizeof(dls_real));
        if (ranks > 1 && s->node->desc.rank == 0 && b >= 0 && b < batches && st == DLS_OK)
            st = dlsi_stage_recv(s->node, ranks - 1, 0x80000000u | (uint32_t)b << 4,
                                 outputs + (size_t)b * (size_t)batch * out,
                                 (size_t)dlsi_min_i32(batch, data->count - b * batch) * out *
                                     sizeof(dls_real));
    }
    for (b = 0; b < 2; b++)
        for (k = 0; k < s->out && st == DLS_OK; k++) st = dlsi_stage_wait(s->node, &s->op[b][k]);
    if (index != NULL) DLS_FREE(index);
    return st;
}
DLS_API dls_status dls_node_infer(dls_node *node, dls_net *net, const dls_data *data, int32_t batch,
                                  dls_real *outputs, dls_node_infer_report *report) {
    const uint64_t start = dls_now_us();
    int32_t *at = (int32_t *)DLS_MALLOC((size_t)(node->count + 1) * sizeof *at);
    dls_node_infer_report own;
    dlsi_stage s;
    dls_status st = at != NULL ? dlsi_net_need_params(net, true) : DLS_E_MEMORY;
    if (report == NULL) report = &own;
    memset(report, 0, sizeof *report);
    DLSI_ZERO(s);
    dlsi_error_clear(&node->error);
    batch = dlsi_or(batch, 64);
    if (st == DLS_OK && (batch < 1 || data->count < 1 || (node->desc.rank == 0 && outputs == NULL)))
        st = DLS_E_ARG;
    if (st == DLS_OK && dlsi_count(data->shape) != dlsi_count(dls_net_shape(net, 0)))
        st = DLS_E_SHAPE;
    if (st == DLS_OK) st = dls_job_cut(net, node->count, node->desc.shares, at);
    if (st == DLS_OK) st = dlsi_node_stage(node, 64);
    if (st == DLS_OK)
        st = dlsi_node_agree(
            node, dls_hash64_reals(dlsi_hash_word(dls_net_hash(net),
                                                  (uint64_t)batch * 65536u + (uint64_t)data->count),
                                   net->params, net->param_count));
    if (st == DLS_OK) st = dlsi_stage_open(&s, node, net, batch, at);
    if (st == DLS_OK) st = dlsi_stage_all(&s, data, batch, outputs);
    if (s.exec != NULL) {
        report->first_node = s.exec->first;
        report->last_node = s.exec->last;
        if (st != DLS_OK && node->error.status == DLS_OK) node->error = s.exec->error;
    }
    (void)dlsi_fail(
        &node->error, st,
        DLSI_MSG("staged inference failed; has the network places to cut it {0} times?"), NULL,
        node->count - 1, 0, 0);
    dlsi_stage_close(&s);
    if (at != NULL) DLS_FREE(at);
    report->samples = data->count;
    report->seconds = (double)(dls_now_us() - start) * 1e-6;
    return st;
}
#endif
#endif /* DLS_ENABLE_PEERS */

/* ---- End of the implementation: give the file back as it was ---- */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif
#undef DLSI_BUILDING
#endif /* DLSI_BUILDING */
#endif /* DLSI_PASS */
