/* A camera loop in C: frames straight from the driver's buffers into the detector.

       c_camera_loop MODEL /dev/video0 HEIGHTxWIDTH FORMAT [FRAMES]
       c_camera_loop MODEL frames.raw  HEIGHTxWIDTH FORMAT [FRAMES]

   FORMAT is YUYV, NV12, GRAY8 or BGR. A camera is read through V4L2's memory-mapped buffers, without a
   copy; any other file holds one raw frame after the other, so that the loop runs without a camera.
   One line a frame: number, score, OK or NG, milliseconds; a frame that could not be judged is neither, and
   told on stderr. SIGINT and SIGTERM end the loop. Exit code 1: the source failed, or no frame was judged.

   Build: make c, or
       gcc -O2 -o c_camera_loop c_camera_loop.c $(pkg-config --cflags --libs ssn_edge) */

#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ssn_edge.h"

enum { BUFFERS = 4, WAIT_MS = 5000 };

typedef struct source {
    int file;
    int camera; /* 1: V4L2, 0: a file */
    ssn_frame frame;
    void *mapped[BUFFERS];
    size_t lengths[BUFFERS];
    unsigned buffers;
    struct v4l2_buffer held; /* what the driver lent us */
    void *room;              /* a file's frame */
} source;

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static int fail(const char *what)
{
    fprintf(stderr, "error: %s: %s\n", what, strerror(errno));
    return -1;
}

static int format_of(const char *name, unsigned *fourcc)
{
    static const struct { const char *name; int format; unsigned fourcc; } known[] = {
        {"BGR", SSN_BGR, V4L2_PIX_FMT_BGR24}, {"GRAY8", SSN_GRAY8, V4L2_PIX_FMT_GREY},
        {"NV12", SSN_NV12, V4L2_PIX_FMT_NV12}, {"YUYV", SSN_YUYV, V4L2_PIX_FMT_YUYV}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            *fourcc = known[i].fourcc;
            return known[i].format;
        }
    return -1;
}

static uint64_t frame_bytes(const ssn_frame *frame)
{
    uint64_t pixels = (uint64_t)frame->height * frame->width;
    switch (frame->format) {
    case SSN_BGR: return pixels * 3;
    case SSN_NV12: return pixels * 3 / 2;
    case SSN_YUYV: return pixels * 2;
    default: return pixels;
    }
}

static int open_camera(source *from, unsigned fourcc)
{
    struct v4l2_format format = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
    struct v4l2_requestbuffers request = {
        .count = BUFFERS, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
    format.fmt.pix.width = from->frame.width;
    format.fmt.pix.height = from->frame.height;
    format.fmt.pix.pixelformat = fourcc;
    if (ioctl(from->file, VIDIOC_S_FMT, &format) < 0)
        return fail("VIDIOC_S_FMT");
    if (format.fmt.pix.pixelformat != fourcc || (int)format.fmt.pix.width != from->frame.width ||
        (int)format.fmt.pix.height != from->frame.height) {
        fprintf(stderr, "error: the camera offers %ux%u of %.4s ; v4l2-ctl --list-formats-ext shows all\n",
                format.fmt.pix.height, format.fmt.pix.width, (const char *)&format.fmt.pix.pixelformat);
        return -1;
    }
    from->frame.stride = (int32_t)format.fmt.pix.bytesperline;
    if (ioctl(from->file, VIDIOC_REQBUFS, &request) < 0)
        return fail("VIDIOC_REQBUFS");
    from->buffers = request.count < BUFFERS ? request.count : BUFFERS;
    for (unsigned i = 0; i < from->buffers; i++) {
        struct v4l2_buffer buffer = {
            .index = i, .type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
        if (ioctl(from->file, VIDIOC_QUERYBUF, &buffer) < 0)
            return fail("VIDIOC_QUERYBUF");
        from->lengths[i] = buffer.length;
        from->mapped[i] = mmap(NULL, buffer.length, PROT_READ, MAP_SHARED, from->file, buffer.m.offset);
        if (from->mapped[i] == MAP_FAILED || ioctl(from->file, VIDIOC_QBUF, &buffer) < 0)
            return fail("VIDIOC_QBUF");
    }
    return ioctl(from->file, VIDIOC_STREAMON, &request.type) < 0 ? fail("VIDIOC_STREAMON") : 0;
}

/* 1: a frame is there, 0: no more, -1: an error. */
static int next_frame(source *from)
{
    if (!from->camera) {
        uint64_t got = 0;
        while (got < from->frame.size) {
            ssize_t count = read(from->file, (char *)from->room + got, from->frame.size - got);
            if (count < 0)
                return errno == EINTR ? 0 : fail("read");
            if (count == 0 && got) {
                fprintf(stderr, "error: the last frame ends after %llu of %llu bytes\n", (unsigned long long)got,
                        (unsigned long long)from->frame.size);
                return -1;
            }
            if (count == 0)
                return 0;
            got += count;
        }
        from->frame.data = from->room;
        return 1;
    }
    struct pollfd ready = {.fd = from->file, .events = POLLIN};
    int count = poll(&ready, 1, WAIT_MS);
    if (count <= 0)
        return count < 0 && errno == EINTR ? 0 : (errno = count ? errno : ETIMEDOUT, fail("camera"));
    from->held = (struct v4l2_buffer){.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_MMAP};
    if (ioctl(from->file, VIDIOC_DQBUF, &from->held) < 0)
        return fail("VIDIOC_DQBUF");
    from->frame.data = from->mapped[from->held.index];
    from->frame.size = from->held.bytesused;
    return 1;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * now.tv_sec + now.tv_nsec / 1e6;
}

static int give_back(source *from)
{
    return from->camera && ioctl(from->file, VIDIOC_QBUF, &from->held) < 0 ? fail("VIDIOC_QBUF") : 0;
}

int main(int count, char **words)
{
    source from = {.frame = SSN_FRAME};
    ssn_options options = SSN_OPTIONS;
    ssn_detector detector;
    ssn_model model = SSN_MODEL;
    ssn_result result = SSN_RESULT;
    struct stat status;
    unsigned fourcc = 0;
    int state = 0;
    long frames = 0, defects = 0, lost = 0, limit = count > 5 ? atol(words[5]) : 0;

    if (count < 5 || sscanf(words[3], "%dx%d", &from.frame.height, &from.frame.width) != 2 ||
        (from.frame.format = format_of(words[4], &fourcc)) < 0) {
        fprintf(stderr, "usage: %s MODEL SOURCE HEIGHTxWIDTH BGR|GRAY8|NV12|YUYV [FRAMES]\n", words[0]);
        return 2;
    }
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a waiting read comes back */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    from.file = open(words[2], O_RDWR);
    if (from.file < 0)
        from.file = open(words[2], O_RDONLY);
    if (from.file < 0 || fstat(from.file, &status) < 0)
        return fail(words[2]), 2;
    from.camera = S_ISCHR(status.st_mode);
    from.frame.size = frame_bytes(&from.frame);
    if (!from.camera && !(from.room = malloc(from.frame.size)))
        return fail("memory"), 2;
    options.model = words[1];
    if (ssn_open(SSN_EDGE_ABI, &options, &detector) || ssn_info(detector, &model)) {
        fprintf(stderr, "error: %s\n", ssn_last_error());
        return 2;
    }
    printf("%s %s on %s, map %dx%d\n", model.backbone, model.precision, model.backend, model.map_height,
           model.map_width);
    if (from.camera && open_camera(&from, fourcc) < 0)
        return 2;
    while (!stopped && (!limit || frames < limit) && (state = next_frame(&from)) > 0) {
        double start = now_ms();
        if (ssn_infer(detector, &from.frame, NULL, 0, NULL, 0, &result)) { /* the line goes on */
            fprintf(stderr, "frame %ld not judged: %s\n", frames, ssn_last_error());
            lost++;
        } else {
            printf("%ld %.9g %s %.3f ms\n", frames, result.score, result.is_defect ? "NG" : "OK",
                   now_ms() - start);
            defects += result.is_defect;
        }
        frames++;
        if (give_back(&from) < 0)
            break;
    }
    printf("%ld frames, %ld NG", frames, defects);
    if (lost)
        printf(", %ld not judged", lost);
    printf("\n");
    ssn_close(detector);
    free(from.room);
    close(from.file);
    return state < 0 || (frames && lost == frames);
}
