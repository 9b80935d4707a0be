/* Every wrong call that a C program can make: a status and a line of text, never a crash. Prints what
   failed; exit code 0 when nothing did. Usage: misuse MODEL */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssn_edge.h"

enum { H = 32, W = 48, THREADS = 8, TURNS = 50 };

static int failures;

static void expect(int line, int32_t status, int32_t expected, const char *words)
{
    const char *message = ssn_last_error();
    int told = expected == SSN_OK ? !*message : strstr(message, words) && !strchr(message, '\n');
    if (status != expected || !told) {
        printf("line %d: status %d, expected %d; \"%s\"\n", line, status, expected, message);
        failures++;
    }
}

#define EXPECT(call, status, words) expect(__LINE__, (call), (status), (words))

static uint8_t pixels[H * W * 3];
static ssn_detector shared;

static ssn_frame frame_of(int format, int height, int width, int stride, uint64_t size)
{
    return (ssn_frame){pixels, size, format, height, width, stride};
}

static void *turns(void *unused)
{
    float *map = malloc(H * W * sizeof *map);
    uint8_t *mask = malloc(H * W);
    ssn_result result;
    ssn_frame frame = frame_of(SSN_BGR, H, W, 0, sizeof pixels);
    (void)unused;
    for (int i = 0; i < TURNS; i++) {
        int32_t status = ssn_infer(shared, &frame, map, H * W, mask, H * W, &result);
        if (status == SSN_BAD_HANDLE)
            break; /* another thread closed it: told, not crashed */
        if (status || result.score != 200 / 255.f || map[7] != 200 || mask[7] != 1)
            failures++;
        if (ssn_infer(0, &frame, NULL, 0, NULL, 0, &result) != SSN_BAD_HANDLE || !*ssn_last_error())
            failures++;
    }
    free(map);
    free(mask);
    return NULL;
}

static void in_threads(int closing)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, turns, NULL);
    if (closing)
        EXPECT(ssn_close(shared), SSN_OK, "");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(int count, char **words)
{
    ssn_detector detector = 99, second;
    ssn_model model;
    ssn_result result;
    float map[H * W];
    uint8_t mask[H * W], *guarded = malloc(sizeof pixels);
    ssn_frame good = frame_of(SSN_BGR, H, W, 0, sizeof pixels), bad;

    memset(pixels, 200, sizeof pixels);
    if (count < 2 || ssn_abi() != SSN_EDGE_ABI)
        return 2;
    EXPECT(ssn_open(NULL, NULL, NULL, &detector), SSN_BAD_ARGUMENT, "model is NULL");
    EXPECT(ssn_open(words[1], NULL, NULL, NULL), SSN_BAD_ARGUMENT, "detector is NULL");
    EXPECT(ssn_open("none.onnx", NULL, NULL, &detector), SSN_BAD_MODEL, "none.onnx: no such model file");
    EXPECT(ssn_open(words[0], NULL, NULL, &detector), SSN_BAD_MODEL, "not an .onnx");
    EXPECT(ssn_open("\xff\xfe.onnx", NULL, NULL, &detector), SSN_BAD_MODEL, "no such model file");
    EXPECT(ssn_open(words[1], "abacus", NULL, &detector), SSN_BACKEND_FAILED, "abacus");
    EXPECT(ssn_open(words[1], NULL, "abcd", &detector), SSN_BAD_MODEL, "sha256");
    if (detector)
        failures++, printf("a failed call left handle %llu\n", (unsigned long long)detector);
    EXPECT(ssn_info(1234, &model), SSN_BAD_HANDLE, "detector 1234");
    EXPECT(ssn_infer(1234, &good, NULL, 0, NULL, 0, &result), SSN_BAD_HANDLE, "detector 1234");
    EXPECT(ssn_close(0), SSN_BAD_HANDLE, "detector 0");

    EXPECT(ssn_open(words[1], "onnxruntime", NULL, &detector), SSN_OK, "");
    EXPECT(ssn_open(words[1], NULL, NULL, &second), SSN_OK, "");
    EXPECT(ssn_info(detector, NULL), SSN_BAD_ARGUMENT, "model is NULL");
    EXPECT(ssn_info(detector, &model), SSN_OK, "");
    if (model.map_height != H || model.map_width != W || strcmp(model.precision, "float32"))
        failures++;
    EXPECT(ssn_infer(detector, NULL, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT, "NULL");
    EXPECT(ssn_infer(detector, &good, NULL, 0, NULL, 0, NULL), SSN_BAD_ARGUMENT, "result is NULL");
    EXPECT(ssn_infer(detector, &good, map, H * W - 1, NULL, 0, &result), SSN_BAD_ARGUMENT, "map: room for 1535");
    EXPECT(ssn_infer(detector, &good, NULL, 0, mask, 7, &result), SSN_BAD_ARGUMENT, "mask: room for 7");
    EXPECT(ssn_infer(detector, &good, (float *)((char *)map + 1), H * W, NULL, 0, &result), SSN_BAD_ARGUMENT,
           "not aligned");
    bad = good, bad.data = NULL;
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT, "NULL");
    bad = frame_of(SSN_BGR, H, W, W * 3 - 1, sizeof pixels);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "stride of 143");
    bad = frame_of(SSN_BGR, H, W, W * 3 + 1, sizeof pixels);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "needs 4639");
    bad = frame_of(SSN_BGR, H, W, -W * 3, sizeof pixels);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "stride of -144");
    bad = frame_of(17, H, W, 0, sizeof pixels);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "number 17");
    bad = frame_of(SSN_NV12, H - 1, W, 0, sizeof pixels);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "even sizes");
    bad = frame_of(SSN_GRAY8, 0, W, 0, sizeof pixels);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "0x48");
    bad = frame_of(SSN_GRAY8, 1 << 30, 1 << 30, 0, ~0ull);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "1073741824");
    bad = frame_of(SSN_BGR, H, W, 0, sizeof pixels - 1);
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_FRAME, "needs 4608");

    EXPECT(ssn_infer(detector, &good, map, H * W, mask, H * W, &result), SSN_OK, "");
    if (result.score != 200 / 255.f || result.map_max != 200 || !result.is_defect || map[H * W - 1] != 200 ||
        mask[0] != 1 || result.region_count != 1 || result.regions[0].width != W || result.ms <= 0)
        failures++, printf("wrong result: %g %g\n", result.score, result.map_max);
    memset(guarded, 200, sizeof pixels); /* on the heap: AddressSanitizer watches both of its ends */
    bad = good, bad.data = guarded;
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_OK, "");
    free(guarded);

    shared = second;
    in_threads(0);
    in_threads(1);
    EXPECT(ssn_close(second), SSN_BAD_HANDLE, "not open");
    EXPECT(ssn_close(detector), SSN_OK, "");
    EXPECT(ssn_close(detector), SSN_BAD_HANDLE, "not open");
    EXPECT(ssn_infer(detector, &good, NULL, 0, NULL, 0, &result), SSN_BAD_HANDLE, "not open");
    if (failures)
        printf("%d failures\n", failures);
    return failures != 0;
}
