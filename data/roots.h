/* The roots of real polynomials, by Laguerre's method. */
#ifndef SEMOLLM_DATA_ROOTS_H
#define SEMOLLM_DATA_ROOTS_H

enum { ROOTS_MOST = 10 };

typedef struct Root {
    double real, imaginary;
} Root;

/* Those of c[0] + c[1] x + … + c[degree] x^degree, c[degree] not 0; of conjugates the one above the real axis. `roots`
 * (room for `degree`) holds guesses, such as the roots of a polynomial like it. Gives how many there are. */
int roots_find(const double *c, int degree, Root *roots);

#endif
