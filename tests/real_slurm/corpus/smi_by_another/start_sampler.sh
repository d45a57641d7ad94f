nvidia-smi --query-gpu=timestamp,utilization.gpu --format=csv -l 30 >gpu_metrics.csv &
sampler=$!
