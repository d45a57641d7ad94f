/* A figure as a function of time: a constant, or steps, once or again and again. */
#pragma once
#include <stdbool.h>

typedef struct {
    double from_s, value;
} Step;

typedef struct {
    Step *steps;
    int count;
    double period_s; /* 0: the last step lasts for ever */
} Curve;

/* `text` is "37", or "0:0 5:100 6:0", or the latter with " every=10"; false if it is none of these. */
bool curve_read(Curve *curve, const char *text);
void curve_free(Curve *curve);
double curve_at(const Curve *curve, double at_s);
double curve_integral(const Curve *curve, double from_s, double to_s);
