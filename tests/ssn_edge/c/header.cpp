// The header from C++: compiled with every warning, and a frame judged. Usage: header MODEL

#include <cstdio>
#include <vector>

#include "ssn_edge.h"

int main(int count, char **arguments)
{
    ssn_options options = SSN_OPTIONS;
    ssn_model model = SSN_MODEL;
    ssn_frame frame = SSN_FRAME;
    ssn_result result = SSN_RESULT;
    ssn_detector detector = 0;
    if (count < 2 || result.is_defect != SSN_NOT_JUDGED || frame.reserved[6])
        return 2;
    options.model = arguments[1];
    if (ssn_open(SSN_EDGE_ABI, &options, &detector) || ssn_info(detector, &model))
        return 3;
    std::vector<unsigned char> pixels(3u * model.map_height * model.map_width, 200);
    frame.height = model.map_height, frame.width = model.map_width;
    frame.data = pixels.data(), frame.size = pixels.size();
    if (ssn_infer(detector, &frame, nullptr, 0, nullptr, 0, &result) || ssn_close(detector))
        return 4;
    std::printf("%d %d %lld\n", result.is_defect, result.regions[0].area,
                static_cast<long long>(result.regions[0].frame_area));
}
