"""Network cameras, clips and pictures over HTTP, from a server in this process."""

import http.server
import threading

import cv2
import numpy as np

from ssn_edge.line import stream

FRAME = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


class Camera(http.server.BaseHTTPRequestHandler):
    """A network camera: 20 frames of MJPEG, then the connection breaks."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        data = cv2.imencode(".jpg", FRAME)[1].tobytes()
        for _ in range(20):
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *_):
        pass


def test_network_camera_that_breaks_off(detector):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/video.mjpg"
    try:
        summary = stream.run(address, detector, policy="every", max_frames=30, retry_s=(0.05, 0.2))
    finally:
        server.shutdown()
        server.server_close()
    assert summary.judged == 30 and summary.gap_count >= 1
    assert "no more frames" in summary.gaps[0].reason
