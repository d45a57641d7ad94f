/* What a figure is at one time, and its exact integral, from which means and counters follow. */
#include "curve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool add_step(Curve *curve, double from_s, double value) {
    bool is_first = curve->count == 0;
    if (is_first ? from_s != 0 : from_s <= curve->steps[curve->count - 1].from_s) return false;
    curve->steps = realloc(curve->steps, (size_t)(curve->count + 1) * sizeof(Step));
    curve->steps[curve->count++] = (Step){from_s, value};
    return true;
}

static bool read_word(Curve *curve, const char *word) {
    char *end;
    if (strncmp(word, "every=", 6) == 0) {
        curve->period_s = strtod(word + 6, &end);
        return *end == '\0' && curve->count > 0 && curve->period_s > curve->steps[curve->count - 1].from_s;
    }
    double number = strtod(word, &end);
    if (end == word) return false;
    if (*end == '\0') return add_step(curve, 0, number) && curve->count == 1;
    if (*end != ':') return false;
    const char *value_text = end + 1;
    double value = strtod(value_text, &end);
    return end != value_text && *end == '\0' && add_step(curve, number, value);
}

bool curve_read(Curve *curve, const char *text) {
    curve_free(curve);
    char *copy = strdup(text), *rest = copy;
    bool is_good = true;
    for (char *word; is_good && (word = strsep(&rest, " "));) {
        if (*word) is_good = read_word(curve, word);
    }
    free(copy);
    return is_good && curve->count > 0;
}

void curve_free(Curve *curve) {
    free(curve->steps);
    *curve = (Curve){0};
}

double curve_at(const Curve *curve, double at_s) {
    if (curve->count == 0) return 0;
    if (curve->period_s > 0 && at_s > 0) at_s = fmod(at_s, curve->period_s);
    int i = 0;
    while (i + 1 < curve->count && curve->steps[i + 1].from_s <= at_s) i++;
    return curve->steps[i].value;
}

/* From 0 to `to_s`, within the first period. */
static double integral_once(const Curve *curve, double to_s) {
    double sum = 0;
    for (int i = 0; i < curve->count && curve->steps[i].from_s < to_s; i++) {
        bool is_last = i + 1 == curve->count;
        double until_s = is_last ? to_s : fmin(to_s, curve->steps[i + 1].from_s);
        sum += curve->steps[i].value * (until_s - curve->steps[i].from_s);
    }
    return sum;
}

static double integral_from_0(const Curve *curve, double to_s) {
    if (curve->count == 0) return 0;
    if (to_s < 0) return curve->steps[0].value * to_s;
    if (curve->period_s <= 0) return integral_once(curve, to_s);
    double periods = floor(to_s / curve->period_s);
    return periods * integral_once(curve, curve->period_s) + integral_once(curve, to_s - periods * curve->period_s);
}

double curve_integral(const Curve *curve, double from_s, double to_s) {
    return integral_from_0(curve, to_s) - integral_from_0(curve, from_s);
}
