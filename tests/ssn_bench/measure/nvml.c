/* NVIDIA's management library, as much of it as sensors.py asks: one GPU with known readings. */
#include <stddef.h>
typedef int result;
static unsigned long long energy_mj = 5000;
result nvmlInitWithFlags(unsigned flags) { (void)flags; return 0; }
result nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = (void *)16; return index ? 2 : 0; }
result nvmlDeviceGetClockInfo(void *g, int kind, unsigned *mhz) { (void)g; *mhz = kind == 1 ? 1410 : 1215; return 0; }
result nvmlDeviceGetTemperature(void *g, int kind, unsigned *c) { (void)g; (void)kind; *c = 61; return 0; }
result nvmlDeviceGetPowerUsage(void *g, unsigned *mw) { (void)g; *mw = 250500; return 0; }
result nvmlDeviceGetTotalEnergyConsumption(void *g, unsigned long long *mj) { (void)g; *mj = energy_mj; energy_mj += 1500; return 0; }
result nvmlDeviceGetCurrentClocksThrottleReasons(void *g, unsigned long long *why) { (void)g; *why = 0x20; return 0; } /* software, heat */
result nvmlDeviceGetMemoryInfo(void *g, unsigned long long *three) { (void)g; (void)three; return 3; } /* not supported */
const char *nvmlErrorString(result r) { (void)r; return "stand-in"; }
