"""Compile every kernel at every model's shape for GPUs that are not here, and read what came out.

    python -m kernels.gpu.compile                        all cases for sm_80 and sm_90, into results/kernels
    python -m kernels.gpu.compile --module gemv          one module's, shown and not written
    python -m kernels.gpu.compile --first --arch 90      each kernel once: what the tests do

Read from the machine code by cuobjdump, which comes with Triton: registers, spills to local memory, and how wide the
loads from global memory are; from Triton: shared memory. A kernel that spills, asks for more shared memory than the GPU
has, or reads what it should read 16 bytes at a time in smaller pieces is a failure.

    machine_code.py   from a cubin to numbers
    ahead_of_time.py  from a case to these numbers and what is wrong with them
    table.py          JSON and page
"""
