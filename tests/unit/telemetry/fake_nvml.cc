// A management library of two GPUs, for the test of GpuWatch: the functions that it looks up, with its documented
// types.
#include <cstring>

namespace {
struct Memory {
  unsigned long long total, free, used;
};
struct Utilization {
  unsigned gpu, memory;
};
int devices[2] = {0, 1};
unsigned long long reads = 0;
}  // namespace

extern "C" {
int nvmlInit_v2() {
  return 0;
}
int nvmlShutdown() {
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 2;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  if (index > 1) return 2;
  *device = &devices[index];
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, Memory* memory) {
  const auto index = static_cast<unsigned long long>(*static_cast<int*>(device));
  // Less at every reading, so that the peak is another number than the latest.
  *memory = {1000, 900 - index, 100 + index - (reads < 50 ? reads++ : reads)};
  return 0;
}
int nvmlDeviceGetUtilizationRates(void*, Utilization* utilization) {
  *utilization = {75, 10};
  return 0;
}
int nvmlDeviceGetPowerUsage(void*, unsigned* milliwatts) {
  *milliwatts = 350'500;
  return 0;
}
int nvmlDeviceGetName(void*, char* name, unsigned length) {
  std::strncpy(name, "Fake GPU", length);
  return 0;
}
int nvmlDeviceGetUUID(void* device, char* uuid, unsigned length) {
  std::strncpy(uuid, *static_cast<int*>(device) == 0 ? "GPU-aaaa-0" : "GPU-bbbb-1", length);
  return 0;
}
}
