/* hostile.h - macros that windows.h, termios.h, complex.h, old compilers and careless headers
   define; dlshard.h must not use such names. */
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define near
#define far
#define small char
#define interface struct
#define unix 1
#define linux 1
#define I (0.0 + 1.0)
#define E 2.718281828
#define PI 3.14159265
#define M 1024
#define N 16
#define K 8
#define A 1
#define B 2
#define C 3
#define D 4
#define F 5
#define L 6
#define R 7
#define S 8
#define T int
#define V 9
#define W 10
#define X 11
#define Y 12
#define Z 13
#define B0 0
#define B1 1
#define _A 1
#define _B 2
#define OK 0
#define FAIL 1
#define ERROR 0
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define DELETE 0x10000
#define ABS(x) ((x) < 0 ? -(x) : (x))
#define SWAP(a, b) ((a) ^= (b))
#define CHECK(x) (x)
#define ASSERT(x) (x)
#define DEBUG 1
#define VERSION "1"
#define STATE 1
#define TRAIN 1
#define INFER 2
#define PACKED __attribute__((packed))
#define UNUSED
#define INLINE inline
#define STATIC
#define ALIGN 4
#define ROW 1
#define COL 2
