/* ssn-edge for C and C++: a model file opened once, frames in, verdicts out.

   Every function returns SSN_OK or another ssn_status, and never throws, exits or raises a signal;
   ssn_last_error() then says in one line what was wrong and what helps. Memory is the caller's: nothing
   that is passed is kept after a call returns. Any thread may call any function; threads that share a
   detector wait for each other. A process that forks must open its detectors after the fork.

   The library embeds Python with ssn-edge: the first call takes a second. SSN_EDGE_PATH, a list of folders
   separated by colons, is searched for ssn-edge and its libraries before those of the build. */

#ifndef SSN_EDGE_H
#define SSN_EDGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SSN_API
#define SSN_API __attribute__((visibility("default")))
#endif

/* types */
enum {
    SSN_EDGE_ABI = 1,     /* raised when a structure or a function changes */
    SSN_MAX_REGIONS = 16  /* the highest peaks; region_count may be larger */
};

typedef enum ssn_status {
    SSN_OK = 0,
    SSN_BAD_ARGUMENT = 1,   /* a NULL, a size or an option that cannot be */
    SSN_BAD_HANDLE = 2,     /* never opened, or closed */
    SSN_BAD_MODEL = 3,      /* a model file that is missing, damaged or foreign */
    SSN_BAD_FRAME = 4,      /* a frame that this model does not take */
    SSN_BACKEND_FAILED = 5, /* the inference library is missing or failed */
    SSN_NO_PYTHON = 6,      /* the embedded Python did not start; see stderr */
    SSN_INTERNAL = 7        /* a defect of ssn-edge */
} ssn_status;

typedef enum ssn_format {
    SSN_BGR = 0,   /* 3 bytes a pixel */
    SSN_GRAY8 = 1, /* 1 byte */
    SSN_NV12 = 2,  /* height rows of brightness, then height / 2 of colour, BT.601; even sizes */
    SSN_YUYV = 3   /* 2 bytes a pixel, BT.601; even width */
} ssn_format;

typedef uint64_t ssn_detector; /* 0 is never one */

typedef struct ssn_frame {
    const void *data; /* the first row */
    uint64_t size;    /* bytes that may be read there */
    int32_t format;   /* ssn_format */
    int32_t height;   /* pixels */
    int32_t width;
    int32_t stride;   /* bytes from one row to the next; 0: rows touch */
} ssn_frame;

typedef struct ssn_model {
    int32_t map_height; /* of the map and mask that ssn_infer fills */
    int32_t map_width;
    float image_threshold; /* on the score, or on the map's maximum: judge_by_map */
    float pixel_threshold;
    int32_t judge_by_map;
    char backbone[64];
    char precision[16];
    char backend[64];
} ssn_model;

typedef struct ssn_region {
    int32_t x; /* pixels of the frame */
    int32_t y;
    int32_t width;
    int32_t height;
    float peak;
} ssn_region;

typedef struct ssn_result {
    float score;   /* 0..1 */
    float map_max; /* the map's highest logit */
    int32_t is_defect;
    int32_t region_count;
    ssn_region regions[16]; /* SSN_MAX_REGIONS, highest peak first */
    double ms;              /* the whole call but for entering Python */
} ssn_result;
/* end of types */

/* The SSN_EDGE_ABI that the library was made with. */
SSN_API int32_t ssn_abi(void);

/* Opens an .onnx or .engine file written by ssn-export. backend: "onnxruntime", "openvino", "tensorrt", or
   NULL for the best there is. sha256: what the file must hash to, or NULL. */
SSN_API int32_t ssn_open(const char *model, const char *backend, const char *sha256, ssn_detector *detector);

/* What the file says of itself. */
SSN_API int32_t ssn_info(ssn_detector detector, ssn_model *model);

/* Judges one frame. map: map_count floats for the anomaly map's logits, or NULL; mask: mask_count bytes of
   0 and 1, or NULL; each map_height * map_width. */
SSN_API int32_t ssn_infer(ssn_detector detector, const ssn_frame *frame, float *map, uint64_t map_count,
                          uint8_t *mask, uint64_t mask_count, ssn_result *result);

/* Frees the detector, after the frames that other threads have under way. */
SSN_API int32_t ssn_close(ssn_detector detector);

/* Why this thread's last call failed, "" after one that did not. Valid until the thread's next call. */
SSN_API const char *ssn_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
