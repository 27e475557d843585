// Exceptions across threads, containers, aligned new, and thread-local objects whose destructors
// free.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct alignas(256) Wide {
    char bytes[512];
};

static thread_local std::vector<std::string> kept;

static long work(int seed)
{
    long caught = 0;
    std::map<std::string, std::unique_ptr<std::string>> names;
    for (int i = 0; i < 3000; i++) {
        kept.push_back(std::string(static_cast<size_t>(i % 97), 'k'));
        try {
            std::string name = "name " + std::to_string(i * seed % 701);
            if (!names.emplace(name, std::make_unique<std::string>(name)).second)
                throw std::runtime_error(name);
        } catch (const std::runtime_error &error) {
            caught += static_cast<long>(std::string(error.what()).size());
        }
        auto wide = std::make_unique<Wide>();
        if (reinterpret_cast<unsigned long>(wide.get()) % 256 != 0)
            std::abort();
    }
    try {
        std::vector<char> impossible(static_cast<size_t>(1) << 62);
        std::abort();
    } catch (const std::bad_alloc &) {
        caught++;
    } catch (const std::length_error &) {
        caught++;
    }
    if (::operator new(static_cast<size_t>(1) << 62, std::nothrow) != nullptr)
        std::abort();
    return caught;
}

int main()
{
    long sums[6];
    std::vector<std::thread> threads;
    for (int i = 0; i < 6; i++)
        threads.emplace_back([i, &sums] { sums[i] = work(i + 1); });
    for (auto &thread : threads)
        thread.join();
    for (long sum : sums)
        std::printf("%ld\n", sum);
    return 0;
}
