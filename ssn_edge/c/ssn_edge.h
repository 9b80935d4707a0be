/* ssn-edge for C and C++: a model opened once, frames in, verdicts out.

   Every function returns SSN_OK or another ssn_status, and never throws, exits or raises a signal;
   ssn_last_error() then says in one line what was wrong and what helps. Memory is the caller's: nothing
   that is passed is kept after a call returns. Any thread may call any function; threads that share a
   detector wait for each other. A process that forks must open its detectors after the fork.

   It fails closed: a value equal to its threshold is NG, and a frame that was not judged, for whatever
   reason, is not 0 (OK) but SSN_NOT_JUDGED.

   Versions. SSN_EDGE_ABI is raised, and the library's name libssn_edge.so.2 with it, when what is here
   changes its meaning; fields at a structure's end and meanings of reserved ones are added without. So each
   structure begins with struct_size, the size that the caller's compiler knows; SSN_FRAME and its like set it:

       ssn_frame frame = SSN_FRAME;

   - the size that an earlier header of this ABI gave it: what that lacks is as if 0 in what is read, and is not
     filled in; every other size that is smaller than here: SSN_BAD_ARGUMENT;
   - larger, up to SSN_MAX_SIZE bytes, of a later header: the bytes that this library does not know must be 0
     in what it reads, SSN_BAD_ARGUMENT otherwise, and are set to 0 in what it fills;
   - reserved fields likewise.

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
    SSN_EDGE_ABI = 2,
    SSN_MAX_REGIONS = 32, /* the highest by peak; the rest are counted */
    SSN_MAX_SIZE = 16384, /* bytes: no structure is larger, or will be */
    SSN_NOT_JUDGED = -1   /* is_defect before a call has succeeded, and after one that failed */
};

typedef enum ssn_status {
    SSN_OK = 0,
    SSN_BAD_ARGUMENT = 1,   /* a NULL, a size or an option that cannot be, another ABI */
    SSN_BAD_HANDLE = 2,     /* never opened, or closed */
    SSN_BAD_MODEL = 3,      /* a model file that is missing, damaged or foreign */
    SSN_BAD_FRAME = 4,      /* a frame that this model does not take */
    SSN_BACKEND_FAILED = 5, /* the inference library is missing or failed, or its answer is not finite */
    SSN_NO_PYTHON = 6,      /* the embedded Python did not start; see stderr */
    SSN_INTERNAL = 7        /* a defect of ssn-edge */
} ssn_status;

typedef enum ssn_format {
    SSN_BGR = 0,   /* 3 bytes a pixel */
    SSN_GRAY8 = 1, /* 1 byte */
    SSN_NV12 = 2,  /* height rows of brightness, then height / 2 of colour, BT.601; even sizes */
    SSN_YUYV = 3   /* 2 bytes a pixel, BT.601; even width */
} ssn_format;

typedef enum ssn_source { /* bits: what a verdict is made of; with both, one that reaches its threshold is NG */
    SSN_BY_SCORE = 1,
    SSN_BY_MAP_MAX = 2
} ssn_source;

typedef uint64_t ssn_detector; /* 0 is never one */

/* No structure has padding where pointers have 64 bits. */

typedef struct ssn_options { /* 72 bytes; 64 before there was a calibration */
    uint32_t struct_size;
    uint32_t threads; /* of the CPU for a frame; 0: the library's own number */
    uint32_t reserved[8];
    const char *model;   /* path of a bundle (NAME.ssn), or of a plain .onnx or .engine file, of ssn-export */
    const char *backend; /* "onnxruntime", "onnxruntime:PROVIDER", "openvino", "tensorrt", "rtx"; NULL: the best */
    const char *sha256;  /* what the file, of a bundle its manifest.json, must hash to, or NULL */
    const char *calibration; /* which of a bundle's to judge by; NULL: the one in use */
} ssn_options;

typedef struct ssn_frame { /* 64 bytes */
    uint32_t struct_size;
    int32_t format; /* ssn_format */
    int32_t height; /* pixels */
    int32_t width;
    int32_t stride; /* bytes from one row to the next; 0: rows touch */
    uint32_t reserved[7];
    const void *data; /* the first row */
    uint64_t size;    /* bytes that may be read there */
} ssn_frame;

typedef struct ssn_model { /* 792 bytes; 208 before there was a calibration */
    uint32_t struct_size;
    int32_t map_height; /* of the map and mask that ssn_infer fills */
    int32_t map_width;
    int32_t frame_height; /* of the only frames that this file takes; 0: any */
    int32_t frame_width;
    int32_t source;        /* ssn_source bits */
    float score_threshold; /* a score that is not below it is NG; FLT_MAX: does not count */
    float map_threshold;   /* the map's maximum likewise */
    float pixel_threshold; /* pixels of the map that are not below it form the mask */
    uint32_t reserved[7];
    char backbone[64];
    char precision[16];
    char backend[64];
    char calibration[72]; /* the name of what the thresholds are from; "": of none */
    char promise[512];    /* what they promise, or why they promise nothing, in a line; UTF-8 */
} ssn_model;

typedef struct ssn_region { /* 48 bytes; an array's element, so that this one stays as it is */
    uint32_t struct_size;
    int32_t x; /* pixels of the frame */
    int32_t y;
    int32_t width;
    int32_t height;
    float peak;   /* the highest logit inside */
    int32_t area; /* pixels of the map */
    uint32_t reserved[3];
    int64_t frame_area; /* pixels of the frame */
} ssn_region;

typedef struct ssn_result { /* 1600 bytes */
    uint32_t struct_size;
    int32_t is_defect;      /* 0: OK, 1: NG, SSN_NOT_JUDGED: the call failed */
    float score;            /* 0..1; NaN where not judged */
    float map_max;          /* the map's highest logit; NaN where not judged */
    double ms;              /* the whole call but for entering Python */
    int32_t region_count;   /* all that the mask has */
    int32_t regions_filled; /* those that follow: SSN_MAX_REGIONS at most */
    uint32_t reserved[8];
    ssn_region regions[32]; /* SSN_MAX_REGIONS, highest peak first */
} ssn_result;
/* end of types */

/* The SSN_EDGE_ABI that the library was made with. */
SSN_API int32_t ssn_abi(void);

/* Opens a model. abi: SSN_EDGE_ABI; a program that was compiled for another is told so, and nothing of what it
   passes is looked at. detector: 0 after a call that failed. */
SSN_API int32_t ssn_open(int32_t abi, const ssn_options *options, ssn_detector *detector);

/* What the file says of itself, and what it is judged by. */
SSN_API int32_t ssn_info(ssn_detector detector, ssn_model *model);

/* Judges one frame. map: map_count floats for the anomaly map's logits, or NULL; mask: mask_count bytes of
   0 and 1, or NULL; each map_height * map_width. A call that fails sets result->is_defect to SSN_NOT_JUDGED,
   unless result itself is refused; what is in map and mask then means nothing. */
SSN_API int32_t ssn_infer(ssn_detector detector, const ssn_frame *frame, float *map, uint64_t map_count,
                          uint8_t *mask, uint64_t mask_count, ssn_result *result);

/* Frees the detector, after the frames that other threads have under way. */
SSN_API int32_t ssn_close(ssn_detector detector);

/* Why this thread's last call failed, "" after one that did not. Valid until the thread's next call. */
SSN_API const char *ssn_last_error(void);

/* What a structure is set to before it is used: ssn_result result = SSN_RESULT; */
#ifndef __cplusplus
#define SSN_OPTIONS {.struct_size = sizeof(ssn_options)}
#define SSN_FRAME {.struct_size = sizeof(ssn_frame)}
#define SSN_MODEL {.struct_size = sizeof(ssn_model)}
#define SSN_RESULT {.struct_size = sizeof(ssn_result), .is_defect = SSN_NOT_JUDGED}
#else
} /* extern "C" */
template <typename Structure> inline Structure ssn_sized()
{
    Structure made = Structure();
    made.struct_size = sizeof(Structure);
    return made;
}
template <> inline ssn_result ssn_sized<ssn_result>()
{
    ssn_result made = ssn_result();
    made.struct_size = sizeof(ssn_result);
    made.is_defect = SSN_NOT_JUDGED;
    return made;
}
#define SSN_OPTIONS ssn_sized<ssn_options>()
#define SSN_FRAME ssn_sized<ssn_frame>()
#define SSN_MODEL ssn_sized<ssn_model>()
#define SSN_RESULT ssn_sized<ssn_result>()
#endif
#endif
