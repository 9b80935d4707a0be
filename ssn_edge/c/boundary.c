/* What needs no Python: checks of the caller's pointers and structures, and each thread's last error. The
   functions named py_ are in embedded.py; they set *status themselves, so that a Python that could not start,
   where cffi returns with nothing done, is told from success. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "ssn_edge.h"

#define MESSAGE_SIZE 512

static __thread char message[MESSAGE_SIZE];

static void py_open(const ssn_options *, ssn_detector *, int32_t *, char *);
static void py_info(ssn_detector, ssn_model *, int32_t *, char *);
static void py_infer(ssn_detector, const ssn_frame *, float *, uint64_t, uint8_t *, uint64_t, ssn_result *,
                     int32_t *, char *);
static void py_close(ssn_detector, int32_t *, char *);

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(ssn_options) == 72 && sizeof(ssn_frame) == 64 && sizeof(ssn_model) == 792 &&
                   sizeof(ssn_region) == 48 && sizeof(ssn_result) == 1600,
               "ssn_edge.h says so");
#endif

static int32_t refuse(const char *why)
{
    snprintf(message, sizeof message, "%s", why);
    return SSN_BAD_ARGUMENT;
}

/* Whether a caller has shown that it was compiled for this ABI. Before, no structure's size is believed: in a
   program of ABI 1 that goes on after ssn_open has refused it, any bytes may stand there. */
static atomic_int known;

static int32_t unopened(void)
{
    snprintf(message, sizeof message, "no detector is open: ssn_open gives one");
    return SSN_BAD_HANDLE;
}

/* What these structures had in the first header of this ABI. */
#define FIRST_OPTIONS offsetof(ssn_options, calibration)
#define FIRST_MODEL offsetof(ssn_model, calibration)

/* first: the size that an earlier header gave it. */
static int fits(const char *name, uint32_t given, size_t first, size_t ours)
{
    if (given == first || (given >= ours && given <= SSN_MAX_SIZE))
        return 1;
    snprintf(message, sizeof message,
             "struct_size is %u, %s of ABI %d has %zu bytes: set struct_size = sizeof(%s)", given, name,
             SSN_EDGE_ABI, ours, name);
    return 0;
}

/* A reserved field, or one that a later header added: it asks for what this library does not do. */
static int is_clear(const char *name, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)bytes)[i]) {
            snprintf(message, sizeof message,
                     "%s has a reserved field, or one of a later ssn_edge.h, that is not 0, whose meaning this "
                     "library does not know: set it to 0, or install a newer one", name);
            return 0;
        }
    return 1;
}

/* Of what the caller gives: its size, the reserved fields, and what it has behind those that are known here. */
#define READABLE(type, given, first)                                                                           \
    (fits(#type, (given)->struct_size, first, sizeof(type)) &&                                                 \
     is_clear(#type, (given)->reserved, sizeof (given)->reserved) &&                                           \
     is_clear(#type, (const char *)(given) + sizeof(type), behind((given)->struct_size, sizeof(type))))

static size_t behind(size_t given, size_t ours) { return given > ours ? given - ours : 0; }

static size_t smaller(size_t one, size_t other) { return one < other ? one : other; }

/* All but the size to 0, of what the caller wants filled. */
static void clear(void *structure)
{
    uint32_t size;
    memcpy(&size, structure, sizeof size);
    memset((char *)structure + sizeof size, 0, size - sizeof size);
}

static void not_judged(ssn_result *result)
{
    clear(result);
    result->is_defect = SSN_NOT_JUDGED;
    result->score = result->map_max = NAN;
}

static pthread_once_t started = PTHREAD_ONCE_INIT;
static int running;

/* cffi would call Py_InitializeEx, which exits the process when Python's own files are not found. */
static void start(void)
{
    PyConfig config;
    PyStatus outcome;
    if (Py_IsInitialized()) { /* the program is a Python itself */
        running = 1;
        return;
    }
    PyConfig_InitIsolatedConfig(&config); /* no PYTHONHOME, no signal handlers, no user site */
    /* Without its place Python would look for itself on PATH, and might find another one's files. */
    outcome = PyConfig_SetBytesString(&config, &config.executable, SSN_PYTHON);
    if (!PyStatus_Exception(outcome))
        outcome = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(outcome))
        fprintf(stderr, "ssn_edge: Python: %s\n", outcome.err_msg ? outcome.err_msg : "does not start");
    else {
        PyEval_SaveThread();
        running = 1;
    }
}

/* Whether there is a Python to ask. */
static int begin(int32_t *status)
{
    *status = SSN_NO_PYTHON;
    snprintf(message, sizeof message, "the embedded Python did not start; stderr says why");
    pthread_once(&started, start);
    return running;
}

static int32_t end(int32_t status)
{
    if (status == SSN_OK)
        message[0] = 0;
    return status;
}

int32_t ssn_abi(void) { return SSN_EDGE_ABI; }

const char *ssn_last_error(void) { return message; }

int32_t ssn_open(int32_t abi, const ssn_options *options, ssn_detector *detector)
{
    int32_t status;
    ssn_options whole = {0};
    if (abi != SSN_EDGE_ABI) { /* ABI 1 had no such number: there it is half of a pointer */
        snprintf(message, sizeof message,
                 "this program was compiled with the ssn_edge.h of another version than ABI %d, which this "
                 "library has: compile it again", SSN_EDGE_ABI);
        return SSN_BAD_ARGUMENT;
    }
    known = 1;
    if (!detector)
        return refuse("ssn_open: detector is NULL; give where the handle goes");
    *detector = 0;
    if (!options)
        return refuse("ssn_open: options is NULL; give the model in an ssn_options");
    if (!READABLE(ssn_options, options, FIRST_OPTIONS))
        return SSN_BAD_ARGUMENT;
    if (!options->model)
        return refuse("ssn_open: model is NULL; give the path of a bundle, or of an .onnx or .engine file");
    memcpy(&whole, options, smaller(options->struct_size, sizeof whole));
    if (begin(&status))
        py_open(&whole, detector, &status, message);
    return end(status);
}

int32_t ssn_info(ssn_detector detector, ssn_model *model)
{
    int32_t status;
    ssn_model whole = {0};
    if (!model)
        return refuse("ssn_info: model is NULL; give where the description goes");
    if (!known)
        return unopened();
    if (!fits("ssn_model", model->struct_size, FIRST_MODEL, sizeof *model))
        return SSN_BAD_ARGUMENT;
    clear(model);
    if (begin(&status))
        py_info(detector, &whole, &status, message);
    if (status == SSN_OK) {
        whole.struct_size = model->struct_size;
        memcpy(model, &whole, smaller(model->struct_size, sizeof whole));
    }
    return end(status);
}

int32_t ssn_infer(ssn_detector detector, const ssn_frame *frame, float *map, uint64_t map_count,
                  uint8_t *mask, uint64_t mask_count, ssn_result *result)
{
    int32_t status;
    if (!result)
        return refuse("ssn_infer: result is NULL; give where the verdict goes");
    if (!known) {
        if (result->struct_size == sizeof *result)
            result->is_defect = SSN_NOT_JUDGED; /* these bytes are there in ABI 1 too */
        return unopened();
    }
    if (!fits("ssn_result", result->struct_size, sizeof *result, sizeof *result))
        return SSN_BAD_ARGUMENT;
    not_judged(result);
    if (!frame)
        return refuse("ssn_infer: frame is NULL; give the frame");
    if (!READABLE(ssn_frame, frame, sizeof *frame))
        return SSN_BAD_ARGUMENT;
    if (!frame->data)
        return refuse("ssn_infer: frame->data is NULL; give the frame's pixels");
    if ((uintptr_t)map % sizeof(float))
        return refuse("ssn_infer: map is not aligned to its floats");
    if (begin(&status))
        py_infer(detector, frame, map, map_count, mask, mask_count, result, &status, message);
    if (status != SSN_OK)
        not_judged(result);
    return end(status);
}

int32_t ssn_close(ssn_detector detector)
{
    int32_t status;
    if (begin(&status))
        py_close(detector, &status, message);
    return end(status);
}
