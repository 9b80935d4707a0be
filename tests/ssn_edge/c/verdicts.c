/* Everything that the library says of raw frames, for a comparison with what Python says of them.
   Usage: verdicts MODEL FRAMES HEIGHT WIDTH FORMAT ARRAYS; each frame's map and mask go to the file ARRAYS. */

#include <stdio.h>
#include <stdlib.h>

#include "ssn_edge.h"

static void print(int32_t status, const ssn_result *result)
{
    printf("%d %d %.9g %.9g %d %s\n", status, result->is_defect, result->score, result->map_max,
           result->region_count, ssn_last_error());
    for (int i = 0; i < result->regions_filled; i++) {
        const ssn_region *one = &result->regions[i];
        printf("    %d %d %d %d %.9g %d %lld\n", one->x, one->y, one->width, one->height, one->peak, one->area,
               (long long)one->frame_area);
    }
}

int main(int count, char **words)
{
    static const int pixel[] = {6, 2, 3, 4}; /* bytes of two pixels, by ssn_format */
    ssn_options options = SSN_OPTIONS;
    ssn_frame frame = SSN_FRAME;
    ssn_model model = SSN_MODEL;
    ssn_result result = SSN_RESULT;
    ssn_detector detector;
    FILE *in = count > 6 ? fopen(words[2], "rb") : NULL, *out = count > 6 ? fopen(words[6], "wb") : NULL;

    if (!in || !out)
        return 2;
    options.model = words[1];
    if (ssn_open(SSN_EDGE_ABI, &options, &detector) || ssn_info(detector, &model))
        return fprintf(stderr, "error: %s\n", ssn_last_error()), 2;
    printf("%d %d %d %d %d %.9g %.9g %.9g\n", model.map_height, model.map_width, model.frame_height,
           model.frame_width, model.source, model.score_threshold, model.map_threshold, model.pixel_threshold);
    frame.height = atoi(words[3]), frame.width = atoi(words[4]), frame.format = atoi(words[5]);
    frame.size = (uint64_t)frame.height * frame.width * pixel[frame.format] / 2;
    size_t room = (size_t)model.map_height * model.map_width;
    void *data = malloc(frame.size);
    float *map = malloc(room * sizeof *map);
    uint8_t *mask = malloc(room);
    frame.data = data;
    while (fread(data, 1, frame.size, in) == frame.size) {
        int32_t status = ssn_infer(detector, &frame, map, room, mask, room, &result);
        print(status, &result);
        fwrite(map, sizeof *map, room, out);
        fwrite(mask, 1, room, out);
    }
    free(data), free(map), free(mask);
    return fclose(in) | fclose(out) | ssn_close(detector);
}
