/* Every wrong call that a C program can make: a status and a line of text, never a crash. Prints what
   failed; exit code 0 when nothing did. Usage: misuse MODEL */

#include <dirent.h>
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
    ssn_frame frame = SSN_FRAME;
    frame.format = format, frame.height = height, frame.width = width, frame.stride = stride;
    frame.data = pixels, frame.size = size;
    return frame;
}

static int32_t open_model(const char *model, const char *backend, const char *sha256, ssn_detector *detector)
{
    ssn_options options = SSN_OPTIONS;
    options.model = model, options.backend = backend, options.sha256 = sha256;
    return ssn_open(SSN_EDGE_ABI, &options, detector);
}

/* A structure on the heap, where AddressSanitizer watches its ends, as a program has it that was compiled with
   a header whose structure is so many bytes larger. */
static void *grown(const void *structure, size_t size, size_t more, int filler)
{
    char *made = malloc(size + more);
    memcpy(made, structure, size);
    memset(made + size, filler, more);
    *(uint32_t *)made = (uint32_t)(size + more);
    return made;
}

/* One that ends where its size says: nothing behind may be read. */
static void *cut(uint32_t size)
{
    char *made = calloc(1, size < sizeof size ? sizeof size : size);
    memcpy(made, &size, sizeof size);
    return made;
}

static void *turns(void *unused)
{
    float *map = malloc(H * W * sizeof *map);
    uint8_t *mask = malloc(H * W);
    ssn_result result = SSN_RESULT;
    ssn_frame frame = frame_of(SSN_BGR, H, W, 0, sizeof pixels);
    (void)unused;
    for (int i = 0; i < TURNS; i++) {
        int32_t status = ssn_infer(shared, &frame, map, H * W, mask, H * W, &result);
        if (status == SSN_BAD_HANDLE)
            break; /* another thread closed it: told, not crashed */
        if (status || result.score != 200 / 255.f || map[7] != 200 || mask[7] != 1)
            failures++, printf("turn %d: status %d, %s\n", i, status, ssn_last_error());
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

/* What is refused before anything is opened. */
static void versions(const char *path)
{
    ssn_options options = SSN_OPTIONS;
    ssn_detector detector = 99;
    ssn_model model = SSN_MODEL;
    ssn_result result = SSN_RESULT;
    ssn_frame frame = frame_of(SSN_BGR, H, W, 0, sizeof pixels);
    options.model = path;
    EXPECT(ssn_open(1, &options, &detector), SSN_BAD_ARGUMENT, "another version than ABI 2");
    EXPECT(ssn_open(3, &options, &detector), SSN_BAD_ARGUMENT, "another version than ABI 2");
    EXPECT(ssn_open(0, NULL, NULL), SSN_BAD_ARGUMENT, "another version than ABI 2");
    EXPECT(ssn_open(-1, (ssn_options *)1, (ssn_detector *)1), SSN_BAD_ARGUMENT, "another version than ABI 2");
    if (detector != 99)
        failures++, printf("another version's detector was written to\n");
    result.is_defect = 0;
    EXPECT(ssn_infer(detector, &frame, NULL, 0, NULL, 0, &result), SSN_BAD_HANDLE, "no detector is open");
    EXPECT(ssn_info(detector, &model), SSN_BAD_HANDLE, "no detector is open");
    if (result.is_defect != SSN_NOT_JUDGED)
        failures++, printf("a verdict without a detector\n");
}

/* What the library starts besides the caller's own, as the system counts. */
static int tasks(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

static void threads(const char *path)
{
    ssn_options options = SSN_OPTIONS;
    ssn_detector detector;
    int before;
    options.model = path, options.backend = "onnxruntime:cpu", options.threads = 1;
    EXPECT(ssn_open(SSN_EDGE_ABI, &options, &detector), SSN_OK, ""); /* what starts once in a process */
    before = tasks();
    EXPECT(ssn_close(detector), SSN_OK, "");
    options.threads = 3;
    EXPECT(ssn_open(SSN_EDGE_ABI, &options, &detector), SSN_OK, "");
    if (before && tasks() != before + 2)
        failures++, printf("%d tasks more with 3 threads than with 1\n", tasks() - before);
    EXPECT(ssn_close(detector), SSN_OK, "");
    options.threads = UINT32_MAX;
    EXPECT(ssn_open(SSN_EDGE_ABI, &options, &detector), SSN_BAD_MODEL, "threads 4294967295: give 1 to 1024");
}

static void sizes(ssn_detector detector, const ssn_frame *good)
{
    static const uint32_t wrong[] = {0, 1, 4, 12, SSN_MAX_SIZE + 1, UINT32_MAX};
    ssn_options options = SSN_OPTIONS;
    ssn_frame frame = *good;
    ssn_result result = SSN_RESULT, *big_result;
    ssn_model *big_model;
    void *given;
    ssn_detector other;
    const char *tail;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        given = cut(wrong[i] <= 12 ? wrong[i] : 4), *(uint32_t *)given = wrong[i];
        EXPECT(ssn_open(SSN_EDGE_ABI, given, &other), SSN_BAD_ARGUMENT, "ssn_options of ABI 2 has 72 bytes");
        EXPECT(ssn_info(detector, given), SSN_BAD_ARGUMENT, "ssn_model of ABI 2 has 792 bytes");
        EXPECT(ssn_infer(detector, given, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT,
               "ssn_frame of ABI 2 has 64 bytes: set struct_size = sizeof(ssn_frame)");
        EXPECT(ssn_infer(detector, good, NULL, 0, NULL, 0, given), SSN_BAD_ARGUMENT,
               "ssn_result of ABI 2 has 1600 bytes");
        free(given);
    }
    given = cut(sizeof frame - 1);
    EXPECT(ssn_infer(detector, given, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT, "struct_size is 63");
    free(given);

    given = cut(68); /* half a pointer */
    EXPECT(ssn_open(SSN_EDGE_ABI, given, &other), SSN_BAD_ARGUMENT,
           "struct_size is 68, ssn_options of ABI 2 has 72 bytes");
    free(given);
    given = cut(791);
    EXPECT(ssn_info(detector, given), SSN_BAD_ARGUMENT, "struct_size is 791, ssn_model of ABI 2 has 792 by");
    free(given);

    options.model = "none.onnx", options.reserved[7] = 1;
    EXPECT(ssn_open(SSN_EDGE_ABI, &options, &other), SSN_BAD_ARGUMENT, "ssn_options has a reserved field");
    options.reserved[7] = 0;
    given = grown(&options, sizeof options, 8, 1);
    EXPECT(ssn_open(SSN_EDGE_ABI, given, &other), SSN_BAD_ARGUMENT, "ssn_options has a reserved");
    free(given);
    given = grown(&options, sizeof options, 8, 0);
    EXPECT(ssn_open(SSN_EDGE_ABI, given, &other), SSN_BAD_MODEL, "none.onnx");
    free(given);

    frame.reserved[0] = 1;
    EXPECT(ssn_infer(detector, &frame, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT, "ssn_frame has a");
    given = grown(good, sizeof *good, 1, 1);
    EXPECT(ssn_infer(detector, given, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT, "ssn_frame has a reserved");
    free(given);
    given = grown(good, sizeof *good, 24, 0);
    EXPECT(ssn_infer(detector, given, NULL, 0, NULL, 0, &result), SSN_OK, "");
    free(given);

    memset(&result, 0xff, sizeof result), result.struct_size = sizeof result; /* not reserved to the caller */
    big_result = grown(&result, sizeof result, 16, 0xff);
    EXPECT(ssn_infer(detector, good, NULL, 0, NULL, 0, big_result), SSN_OK, "");
    tail = (char *)(big_result + 1);
    for (int i = 0; i < 16; i++)
        failures += tail[i] != 0;
    for (int i = 0; i < 8; i++)
        failures += big_result->reserved[i] != 0;
    failures += big_result->struct_size != sizeof result + 16 || big_result->regions_filled != 1 ||
                big_result->regions[0].struct_size != sizeof(ssn_region) || big_result->regions[0].reserved[2] ||
                big_result->regions[1].struct_size;
    free(big_result);
    big_model = grown(&(ssn_model)SSN_MODEL, sizeof *big_model, 16, 0xff);
    EXPECT(ssn_info(detector, big_model), SSN_OK, "");
    tail = (char *)(big_model + 1);
    failures += tail[0] != 0 || tail[15] != 0 || big_model->map_height != H || big_model->reserved[6];
    free(big_model);
}

/* After whatever call that failed, a program that looks at nothing but is_defect rejects. */
static void not_judged(ssn_detector detector, const ssn_frame *good)
{
    ssn_frame none = {0}, black = *good;
    float map[1];
    const struct { ssn_detector detector; const ssn_frame *frame; float *map; } calls[] = {
        {0, good, NULL}, {detector, NULL, NULL}, {detector, &none, NULL}, {detector, &black, NULL},
        {detector, good, map}};
    black.data = NULL;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        ssn_result result = SSN_RESULT;
        EXPECT(ssn_infer(detector, good, NULL, 0, NULL, 0, &result), SSN_OK, "");
        if (!ssn_infer(calls[i].detector, calls[i].frame, calls[i].map, 1, NULL, 0, &result) ||
            result.is_defect != SSN_NOT_JUDGED || result.score == result.score ||
            result.map_max == result.map_max || result.region_count || result.regions_filled ||
            result.regions[0].width || result.struct_size != sizeof result)
            failures++, printf("call %zu left the verdict %d\n", i, result.is_defect);
    }
}

int main(int count, char **words)
{
    ssn_detector detector = 99, second;
    ssn_model model = SSN_MODEL;
    ssn_result result = SSN_RESULT;
    float map[H * W];
    uint8_t mask[H * W], *guarded = malloc(sizeof pixels);
    ssn_frame good = frame_of(SSN_BGR, H, W, 0, sizeof pixels), bad;

    memset(pixels, 200, sizeof pixels);
    if (count < 2 || ssn_abi() != SSN_EDGE_ABI)
        return 2;
    versions(words[1]);
    EXPECT(open_model(NULL, NULL, NULL, &detector), SSN_BAD_ARGUMENT, "model is NULL");
    EXPECT(open_model(words[1], NULL, NULL, NULL), SSN_BAD_ARGUMENT, "detector is NULL");
    EXPECT(open_model("none.onnx", NULL, NULL, &detector), SSN_BAD_MODEL, "none.onnx: no such model file");
    EXPECT(open_model(words[0], NULL, NULL, &detector), SSN_BAD_MODEL, "not an .onnx");
    EXPECT(open_model("\xff\xfe.onnx", NULL, NULL, &detector), SSN_BAD_MODEL, "no such model file");
    EXPECT(open_model(words[1], "abacus", NULL, &detector), SSN_BACKEND_FAILED, "abacus");
    EXPECT(open_model(words[1], "onnxruntime:abacus", NULL, &detector), SSN_BACKEND_FAILED, "onnxruntime:abacus");
    EXPECT(open_model(words[1], NULL, "abcd", &detector), SSN_BAD_MODEL, "sha256");
    threads(words[1]);
    if (detector)
        failures++, printf("a failed call left handle %llu\n", (unsigned long long)detector);
    EXPECT(ssn_info(1234, &model), SSN_BAD_HANDLE, "detector 1234");
    EXPECT(ssn_infer(1234, &good, NULL, 0, NULL, 0, &result), SSN_BAD_HANDLE, "detector 1234");
    EXPECT(ssn_close(0), SSN_BAD_HANDLE, "detector 0");

    EXPECT(open_model(words[1], "onnxruntime", NULL, &detector), SSN_OK, "");
    EXPECT(open_model(words[1], NULL, NULL, &second), SSN_OK, "");
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
    EXPECT(ssn_infer(detector, &bad, NULL, 0, NULL, 0, &result), SSN_BAD_ARGUMENT, "data is NULL");
    sizes(detector, &good);
    not_judged(detector, &good);
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
