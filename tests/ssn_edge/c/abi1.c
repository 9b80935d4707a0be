/* A program of ABI 1, with what its ssn_edge.h declared: the library of another version tells it so, and leaves
   its memory as it is, also where it goes on and never looks at a status. Usage: abi1 MODEL */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t ssn_detector;

typedef struct ssn_frame {
    const void *data;
    uint64_t size;
    int32_t format, height, width, stride;
} ssn_frame;

typedef struct ssn_model {
    int32_t map_height, map_width;
    float image_threshold, pixel_threshold;
    int32_t judge_by_map;
    char backbone[64], precision[16], backend[64];
} ssn_model;

typedef struct ssn_result {
    float score, map_max;
    int32_t is_defect, region_count;
    struct { int32_t x, y, width, height; float peak; } regions[16];
    double ms;
} ssn_result;

int32_t ssn_abi(void);
int32_t ssn_open(const char *model, const char *backend, const char *sha256, ssn_detector *detector);
int32_t ssn_info(ssn_detector detector, ssn_model *model);
int32_t ssn_infer(ssn_detector detector, const ssn_frame *frame, float *map, uint64_t map_count,
                  uint8_t *mask, uint64_t mask_count, ssn_result *result);
int32_t ssn_close(ssn_detector detector);
const char *ssn_last_error(void);

/* Memory that was never set holds anything: also a number that could be a structure's size. */
static const uint32_t found[] = {0, 2, 64, 208, 1000, 1600, 1608, 4000, 16384, 0x3f000000, UINT32_MAX};

int main(int count, char **words)
{
    ssn_detector detector = 99; /* as if never set: nobody may take it for another's */
    char sha256[65] = "never written to", before[sizeof sha256];
    int32_t opened;

    if (count < 2)
        return 2;
    memcpy(before, sha256, sizeof before);
    opened = ssn_open(words[1], NULL, sha256, &detector);
    printf("%d %d %s\n", ssn_abi(), opened, ssn_last_error());
    if (detector != 99 || memcmp(before, sha256, sizeof before))
        return 3;
    if (ssn_open(words[1], "onnxruntime", NULL, &detector) != opened || detector != 99)
        return 4;
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        ssn_model *model = malloc(sizeof *model); /* AddressSanitizer watches its ends */
        ssn_result *result = malloc(sizeof *result);
        ssn_frame *frame = calloc(1, sizeof *frame);
        frame->data = (const void *)(uintptr_t)(0x7f0000000000 + found[i]);
        memset(model, 0xab, sizeof *model), memcpy(model, &found[i], sizeof found[i]);
        memset(result, 0xab, sizeof *result), memcpy(result, &found[i], sizeof found[i]);
        if (!ssn_info(detector, model) || model->judge_by_map != (int32_t)0xabababab)
            return 5;
        if (!ssn_infer(detector, frame, NULL, 0, NULL, 0, result) || result->is_defect != (int32_t)0xabababab)
            return 6;
        free(model), free(result), free(frame);
    }
    return ssn_close(detector) ? opened : 7;
}
