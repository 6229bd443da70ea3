#!/usr/bin/python3
"""Data-parallel training with DDP over gloo.
one host:   torch_ddp.py NET spawn NPROC [hook] [seconds]
two hosts:  torch_ddp.py NET RANK WORLD MASTER_IP IFNAME [hook] [seconds]      hook: none|fp16|powersgd1|powersgd4|nosync (no communication: the ceiling)
Batch 64 (gpt 8) on each process, 1 thread each, channels_last for the CNNs."""
import sys,os
os.environ['OPENBLAS_NUM_THREADS']=os.environ['OMP_NUM_THREADS']='1'; os.environ.setdefault('ATEN_CPU_CAPABILITY','avx512')
import time,torch,torch.distributed as d,torch.multiprocessing as mp,statistics as st
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks as dh, powerSGD_hook as ps
from torch_nets import make
def work(r,n,addr,port,ifn,net,hook,secs):
    if os.environ.get('PIN')=='1': os.sched_setaffinity(0,{r%os.cpu_count()})   # PIN=1: one core per rank
    os.environ.update(MASTER_ADDR=addr,MASTER_PORT=str(port),GLOO_SOCKET_IFNAME=ifn)
    torch.set_num_threads(1); torch.set_flush_denormal(True); d.init_process_group('gloo',rank=r,world_size=n)
    B=8 if net=='gpt' else 64; m,x,y,lf=make(net,B); np_=sum(p.numel() for p in m.parameters())
    if x.dim()==4: m=m.to(memory_format=torch.channels_last); x=x.to(memory_format=torch.channels_last)
    M=torch.nn.parallel.DistributedDataParallel(m,broadcast_buffers=False)
    if hook=='fp16': M.register_comm_hook(None,dh.fp16_compress_hook)
    if hook.startswith('powersgd'): M.register_comm_hook(ps.PowerSGDState(None,matrix_approximation_rank=int(hook[8:]),start_powerSGD_iter=2,min_compression_rate=1.1),ps.powerSGD_hook)
    opt=(torch.optim.AdamW(m.parameters(),lr=1e-4,foreach=True) if net=='gpt' else torch.optim.SGD(m.parameters(),lr=1e-3,momentum=0.9,foreach=True))
    def step():
        opt.zero_grad(set_to_none=True)
        if hook=='nosync':
            with M.no_sync(): lf(M(x),y).backward()
        else: lf(M(x),y).backward()
        opt.step()
    for _ in range(6): step()
    d.barrier(); t=[]; t0=time.perf_counter(); go=torch.ones(1)
    while True:                                  # blocks of 5 steps; rank 0 decides when to stop
        a=time.perf_counter()
        for _ in range(5): step()
        t.append((time.perf_counter()-a)/5)
        if r==0 and time.perf_counter()-t0>secs and len(t)>=3: go[0]=0
        d.broadcast(go,0)
        if go[0]==0: break
    t.sort(); md=st.median(t)
    if r==0: print(f"ddp {net:8s} n={n} hook={hook:9s} median {md*1e3:9.2f} ms/step  {n*B/md:8.0f} samples/s (p10 {n*B/t[len(t)*9//10]:.0f} p90 {n*B/t[len(t)//10]:.0f}) grads={np_*4/1e6:.2f} MB",flush=True)
    d.barrier(); d.destroy_process_group()
if __name__=='__main__':
    a=sys.argv
    if a[2]=='spawn':
        n=int(a[3]); mp.spawn(work,(n,'127.0.0.1',29500+os.getpid()%1000,'lo',a[1],a[4] if len(a)>4 else 'none',float(a[5]) if len(a)>5 else 4),n)
    else: work(int(a[2]),int(a[3]),a[4],29777,a[5],a[1],a[6] if len(a)>6 else 'none',float(a[7]) if len(a)>7 else 6)
