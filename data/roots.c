#include "data/roots.h"

#include <math.h>
#include <string.h>

enum { STEPS_MOST = 60 };

static const double ROUNDING = 1e-15, REAL = 1e-12;

static Root times(Root a, Root b) {
    return (Root){a.real * b.real - a.imaginary * b.imaginary, a.real * b.imaginary + a.imaginary * b.real};
}

static Root over(Root a, Root b) {
    double norm = b.real * b.real + b.imaginary * b.imaginary;
    return (Root){(a.real * b.real + a.imaginary * b.imaginary) / norm,
                  (a.imaginary * b.real - a.real * b.imaginary) / norm};
}

static double size2(Root a) { return a.real * a.real + a.imaginary * a.imaginary; }

static Root square_root(Root a) {
    double size = sqrt(size2(a)), real = sqrt(fmax(0, 0.5 * (size + a.real)));
    double imaginary = sqrt(fmax(0, 0.5 * (size - a.real)));
    return (Root){real, a.imaginary < 0 ? -imaginary : imaginary};
}

/* A polynomial, its slope and half its bend at a point, and how far rounding may put it off zero. */
typedef struct Values {
    Root value, slope, bend;
    double noise;
} Values;

static Values evaluate(const double *c, int degree, Root at) {
    Values v = {.value = {c[degree], 0}, .noise = fabs(c[degree])};
    double size = sqrt(size2(at));
    for (int i = degree - 1; i >= 0; i--) {
        v.bend = times(v.bend, at);
        v.bend = (Root){v.bend.real + v.slope.real, v.bend.imaginary + v.slope.imaginary};
        v.slope = times(v.slope, at);
        v.slope = (Root){v.slope.real + v.value.real, v.slope.imaginary + v.value.imaginary};
        v.value = times(v.value, at);
        v.value.real += c[i];
        v.noise = v.noise * size + fabs(c[i]);
    }
    v.noise *= ROUNDING;
    return v;
}

/* Laguerre's step: n / (G ± sqrt((n - 1) (n H - G²))) with G = p'/p, H = G² - p''/p. */
static Root laguerre_step(const Values *v, int degree) {
    double n = degree;
    Root g = over(v->slope, v->value), square = times(g, g), bend = over(v->bend, v->value);
    Root inside = {(n - 1) * ((n - 1) * square.real - 2 * n * bend.real),
                   (n - 1) * ((n - 1) * square.imaginary - 2 * n * bend.imaginary)};
    Root root = square_root(inside);
    Root plus = {g.real + root.real, g.imaginary + root.imaginary};
    Root minus = {g.real - root.real, g.imaginary - root.imaginary};
    Root divisor = size2(plus) > size2(minus) ? plus : minus;
    if (size2(divisor) == 0) return (Root){1, 1}; /* flat: anywhere else will do */
    return over((Root){n, 0}, divisor);
}

static Root find_one(const double *c, int degree, Root at) {
    for (int i = 1; i <= STEPS_MOST; i++) {
        Values v = evaluate(c, degree, at);
        if (size2(v.value) <= v.noise * v.noise) break;
        Root step = laguerre_step(&v, degree);
        if (i % 10 == 0) step = (Root){0.7 * step.real, 0.7 * step.imaginary}; /* out of a cycle, should there be one */
        Root next = {at.real - step.real, at.imaginary - step.imaginary};
        if (next.real == at.real && next.imaginary == at.imaginary) break;
        at = next;
        if (size2(step) < ROUNDING * ROUNDING * size2(at)) break;
    }
    return at;
}

/* Divides the polynomial by x - root, or by both conjugates' factors; gives the degree that is left. */
static int deflate(double *c, int degree, Root root) {
    double q[ROOTS_MOST + 1] = {0};
    if (root.imaginary == 0) {
        for (int i = degree; i > 0; i--) q[i - 1] = c[i] + (i < degree ? root.real * q[i] : 0);
        memcpy(c, q, (size_t)degree * sizeof *c);
        return degree - 1;
    }
    double sum = 2 * root.real, product = size2(root);
    for (int i = degree; i > 1; i--)
        q[i - 2] = c[i] + (i < degree ? sum * q[i - 1] : 0) - (i < degree - 1 ? product * q[i] : 0);
    memcpy(c, q, (size_t)(degree - 1) * sizeof *c);
    return degree - 2;
}

/* Newton's steps on the whole polynomial take out what deflation put in. */
static Root polish(const double *c, int degree, Root at) {
    for (int i = 0; i < 2; i++) {
        Values v = evaluate(c, degree, at);
        if (size2(v.value) <= v.noise * v.noise || size2(v.slope) == 0) break;
        Root step = over(v.value, v.slope);
        at = (Root){at.real - step.real, at.imaginary - step.imaginary};
    }
    return at;
}

int roots_find(const double *c, int degree, Root *roots) {
    double left[ROOTS_MOST + 1];
    memcpy(left, c, (size_t)(degree + 1) * sizeof *left);
    int found = 0;
    for (int remaining = degree; remaining > 0;) {
        Root root = find_one(left, remaining, roots[found]);
        if (remaining == 1 || fabs(root.imaginary) <= REAL * (1 + fabs(root.real))) root.imaginary = 0;
        root.imaginary = fabs(root.imaginary);
        remaining = deflate(left, remaining, root);
        roots[found++] = polish(c, degree, root);
    }
    return found;
}
