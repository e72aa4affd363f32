// throw: a progress callback lets an exception out, which it must not.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include <lenet.h>

namespace {

struct OnTheWay {
    ~OnTheWay()
    {
        std::puts("destroyed");
        std::fflush(stdout);
    }
};

void check(lenet_status status)
{
    if (status != LENET_OK) {
        std::fprintf(stderr, "%s\n", lenet_last_error());
        std::exit(2);
    }
}

} // namespace

extern "C" std::int32_t on_progress(const lenet_progress *, void *)
{
    const OnTheWay on_the_way;
    throw std::runtime_error("out of the callback");
}

int main()
{
    lenet_options options;
    lenet_fit_options fit;
    check(lenet_options_init(&options, sizeof options, LENET_PRESET_CLASSIC));
    check(lenet_fit_options_init(&fit, sizeof fit, LENET_PRESET_CLASSIC));
    options.height = options.width = 16;
    const std::vector<std::uint8_t> images(8 * 16 * 16, 100), labels(8, 1);
    lenet_model *model = nullptr;
    lenet_dataset *dataset = nullptr;
    check(lenet_create(&options, &model));
    check(lenet_dataset_from_memory(images.data(), labels.data(), 8, 16, 16, &dataset));
    lenet_fit(model, dataset, nullptr, &fit, on_progress, nullptr);
    std::puts("lenet_fit came back");
    return 0;
}
