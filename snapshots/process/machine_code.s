# The source of the bytes in machine.py: x86-64, Linux, System V ABI (section 3.2.1 says which
# registers a function keeps for its caller). tests/snapshots/test_process_images.py assembles it.
.intel_syntax noprefix
.text

# freeze(registers, descriptor): writes the registers down and waits. Nothing ever comes from the
# descriptor; at its end the process ends. In a process that goes on from here it returns the result
# that `thaw` was given.
freeze:
  mov [rdi], rbx
  mov [rdi+8], rbp
  mov [rdi+16], r12
  mov [rdi+24], r13
  mov [rdi+32], r14
  mov [rdi+40], r15
  lea rax, [rsp+8]        # the stack as it is after the return
  mov [rdi+48], rax
  mov rax, [rsp]          # and where that goes
  mov [rdi+56], rax
  mov rax, fs:0           # the thread's own memory: its first word is its address
  mov [rdi+64], rax
  stmxcsr [rdi+72]        # how floating point rounds
  fnstcw [rdi+76]
  mov eax, esi
  lea rsi, [rdi+80]
  mov edi, eax
  mov edx, 1
  xor eax, eax
  syscall                 # read(descriptor, registers + 80, 1)
  xor edi, edi
  mov eax, 231
  syscall                 # exit_group(0)

.balign 16
# thaw(calls, count, registers, result): makes the system calls, of seven words each, and goes on
# where `freeze` was called. Where one fails the process ends with its errno.
thaw:
  mov rbx, rdi
  mov rbp, rsi
  mov r12, rdx
  mov r13, rcx
1:
  test rbp, rbp
  jz 3f
  mov rax, [rbx]
  mov rdi, [rbx+8]
  mov rsi, [rbx+16]
  mov rdx, [rbx+24]
  mov r10, [rbx+32]
  mov r8, [rbx+40]
  mov r9, [rbx+48]
  syscall
  cmp rax, -4095
  jae 2f
  add rbx, 56
  dec rbp
  jmp 1b
2:
  neg eax
  mov edi, eax
  mov eax, 231
  syscall                 # exit_group(errno)
3:
  mov rdx, r12
  mov rax, r13
  ldmxcsr [rdx+72]
  fldcw [rdx+76]
  mov rbx, [rdx]
  mov rbp, [rdx+8]
  mov r12, [rdx+16]
  mov r13, [rdx+24]
  mov r14, [rdx+32]
  mov r15, [rdx+40]
  mov rsp, [rdx+48]
  jmp [rdx+56]
