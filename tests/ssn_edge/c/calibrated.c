/* A calibrated bundle from C: what it is judged by, and the verdicts on raw BGR frames; with a name, by that
   calibration. First as a program that was compiled before there were calibrations, whose structures end where
   AddressSanitizer watches. Usage: calibrated MODEL FRAMES HEIGHT WIDTH [NAME] */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssn_edge.h"

enum { OLD_OPTIONS = 64, OLD_MODEL = 208 };

/* The same thresholds as a program of today is told, and nothing written behind its structure. */
static int before(const char *path, const ssn_model *now)
{
    ssn_options *options = calloc(1, OLD_OPTIONS);
    ssn_model *model = malloc(OLD_MODEL);
    ssn_detector detector = 0;
    int same;

    memset(model, 0xab, OLD_MODEL);
    options->struct_size = OLD_OPTIONS, model->struct_size = OLD_MODEL, options->model = path;
    if (ssn_open(SSN_EDGE_ABI, options, &detector) || ssn_info(detector, model))
        return fprintf(stderr, "error: %s\n", ssn_last_error()), 0;
    same = model->struct_size == OLD_MODEL &&
           !memcmp((char *)model + 4, (const char *)now + 4, OLD_MODEL - 4);
    free(options), free(model);
    return ssn_close(detector) ? 0 : same;
}

int main(int count, char **words)
{
    ssn_options options = SSN_OPTIONS;
    ssn_frame frame = SSN_FRAME;
    ssn_model model = SSN_MODEL;
    ssn_result result = SSN_RESULT;
    ssn_detector detector;
    FILE *in = count > 4 ? fopen(words[2], "rb") : NULL;

    if (!in)
        return 2;
    options.model = words[1], options.calibration = count > 5 ? words[5] : NULL;
    if (ssn_open(SSN_EDGE_ABI, &options, &detector) || ssn_info(detector, &model))
        return fprintf(stderr, "error: %s\n", ssn_last_error()), 3;
    if (count == 5 && !before(words[1], &model))
        return 4;
    printf("%s\n%s\n%.9g %.9g %.9g\n", model.calibration, model.promise, model.score_threshold,
           model.map_threshold, model.pixel_threshold);
    frame.height = atoi(words[3]), frame.width = atoi(words[4]), frame.format = SSN_BGR;
    frame.size = (uint64_t)frame.height * frame.width * 3;
    void *data = malloc(frame.size);
    frame.data = data;
    while (fread(data, 1, frame.size, in) == frame.size) {
        if (ssn_infer(detector, &frame, NULL, 0, NULL, 0, &result))
            return fprintf(stderr, "error: %s\n", ssn_last_error()), 5;
        printf("%d %.9g %.9g %d\n", result.is_defect, result.score, result.map_max, result.region_count);
    }
    free(data);
    return fclose(in) | ssn_close(detector);
}
