/* What needs no Python: checks of the caller's pointers, and each thread's last error. The functions
   named py_ are in embedded.py; they set *status themselves, so that a Python that could not start,
   where cffi returns with nothing done, is told from success. */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "ssn_edge.h"

#define MESSAGE_SIZE 512

static __thread char message[MESSAGE_SIZE];

static void py_open(const char *, const char *, const char *, ssn_detector *, int32_t *, char *);
static void py_info(ssn_detector, ssn_model *, int32_t *, char *);
static void py_infer(ssn_detector, const ssn_frame *, float *, uint64_t, uint8_t *, uint64_t, ssn_result *,
                     int32_t *, char *);
static void py_close(ssn_detector, int32_t *, char *);

static int32_t refuse(const char *why)
{
    snprintf(message, sizeof message, "%s", why);
    return SSN_BAD_ARGUMENT;
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

int32_t ssn_open(const char *model, const char *backend, const char *sha256, ssn_detector *detector)
{
    int32_t status;
    if (!detector)
        return refuse("ssn_open: detector is NULL; give where the handle goes");
    *detector = 0;
    if (!model)
        return refuse("ssn_open: model is NULL; give the path of an .onnx or .engine file");
    if (begin(&status))
        py_open(model, backend ? backend : "auto", sha256, detector, &status, message);
    return end(status);
}

int32_t ssn_info(ssn_detector detector, ssn_model *model)
{
    int32_t status;
    if (!model)
        return refuse("ssn_info: model is NULL; give where the description goes");
    if (begin(&status))
        py_info(detector, model, &status, message);
    return end(status);
}

int32_t ssn_infer(ssn_detector detector, const ssn_frame *frame, float *map, uint64_t map_count,
                  uint8_t *mask, uint64_t mask_count, ssn_result *result)
{
    int32_t status;
    if (!frame || !frame->data)
        return refuse("ssn_infer: frame or frame->data is NULL; give the frame's pixels");
    if (!result)
        return refuse("ssn_infer: result is NULL; give where the verdict goes");
    if ((uintptr_t)map % sizeof(float))
        return refuse("ssn_infer: map is not aligned to its floats");
    if (begin(&status))
        py_infer(detector, frame, map, map_count, mask, mask_count, result, &status, message);
    return end(status);
}

int32_t ssn_close(ssn_detector detector)
{
    int32_t status;
    if (begin(&status))
        py_close(detector, &status, message);
    return end(status);
}
