/*
 * A guest of 64 KiB that proves an accelerator by what a kernel needs of it: it goes from the reset
 * vector to long mode with paging, on to ring 3, works there with SSE and memory, comes back by
 * syscall, takes a timer interrupt of the local APIC, and only then says so on the serial port.
 * Loaded with -bios. A device node that opens is no proof: some hypervisors hand out vCPUs that
 * emulate the first instructions and then stop, or run them a thousand times too slowly.
 *
 * Memory: 0x1000 PML4, 0x2000 PDPT, 0x3000 PD (low 1 GiB), 0x4000 PD (top 1 GiB, for the APIC),
 * 0x5000 IDT, 0x7000 stack of ring 0, 0x8000 this image's code, 0x100000 what ring 3 writes to.
 */
	.set ROM, 0xffff0000
	.set CODE, 0x8000
	.set SERIAL, 0x3f8
	.set APIC, 0xfee00000
	.set VECTOR, 0x40
	/* 2 million rounds of four instructions: milliseconds on a CPU, seconds in an emulator of single instructions. */
	.set ROUNDS, 2000000

	.section .text
	.code16
start:
	cli
	cld
	/* Copies the ROM's first 4 KiB, which hold all code, from f000:0 to 0:8000. */
	xorw %ax, %ax
	movw %ax, %es
	movw $0xf000, %ax
	movw %ax, %ds
	xorw %si, %si
	movw $CODE, %di
	movw $0x800, %cx
	rep movsw
	xorw %ax, %ax
	movw %ax, %ds
	ljmp $0, $(CODE + low - start)
low:
	lgdtl CODE + gdt_pointer - start
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $0x08, $(CODE + protected - start)

	.code32
protected:
	movw $0x10, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $0x7000, %esp
	movl $0x1000, %edi
	xorl %eax, %eax
	movl $0x1800, %ecx
	rep stosl
	movl $0x2007, 0x1000
	movl $0x3007, 0x2000
	movl $0x4007, 0x2018
	movl $0x3000, %edi
	movl $0x87, %eax
	movl $512, %ecx
1:	movl %eax, (%edi)
	addl $8, %edi
	addl $0x200000, %eax
	loop 1b
	movl $0x4000, %edi
	movl $0xc0000087, %eax
	movl $512, %ecx
1:	movl %eax, (%edi)
	addl $8, %edi
	addl $0x200000, %eax
	loop 1b
	/* PAE, and SSE instructions (OSFXSR, OSXMMEXCPT). */
	movl $0x620, %eax
	movl %eax, %cr4
	movl $0x1000, %eax
	movl %eax, %cr3
	/* EFER: long mode and syscall. */
	movl $0xc0000080, %ecx
	rdmsr
	orl $0x101, %eax
	wrmsr
	movl $0x80000033, %eax
	movl %eax, %cr0
	ljmpl $0x18, $(CODE + long_mode - start)

	.code64
long_mode:
	movw $0x20, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movq $0x7000, %rsp
	/* STAR: kernel 0x18, user from 0x20 (ss 0x28, cs 0x30). LSTAR: where syscall goes. */
	movl $0xc0000081, %ecx
	xorl %eax, %eax
	movl $0x00200018, %edx
	wrmsr
	movl $0xc0000082, %ecx
	movl $(CODE + back - start), %eax
	xorl %edx, %edx
	wrmsr
	movl $0xc0000084, %ecx
	xorl %eax, %eax
	xorl %edx, %edx
	wrmsr
	movl $(CODE + user - start), %ecx
	movl $2, %r11d
	sysretq
user:
	movl $ROUNDS, %ecx
	movl $0x100000, %edi
	pxor %xmm0, %xmm0
	movl $1, %eax
	movd %eax, %xmm1
1:	paddq %xmm1, %xmm0
	movdqu %xmm0, (%rdi)
	decl %ecx
	jnz 1b
	movq %xmm0, %rbx
	syscall
back:
	movq $0x7000, %rsp
	cmpl $ROUNDS, %ebx
	jne stop
	/* One gate for the timer, then the APIC: enabled, one shot, divided by 1. */
	movl $(0x5000 + VECTOR * 16), %edi
	movl $(CODE + timer - start), %eax
	movw %ax, (%rdi)
	movw $0x18, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	lidt CODE + idt_pointer - start
	movl $APIC, %edi
	movl $0x1ff, 0xf0(%rdi)
	movl $0xb, 0x3e0(%rdi)
	movl $VECTOR, 0x320(%rdi)
	xorl %ebp, %ebp
	movl $10000, 0x380(%rdi)
	sti
1:	hlt
	testl %ebp, %ebp
	jz 1b
	movl $(CODE + message - start), %esi
	movw $SERIAL, %dx
1:	lodsb
	testb %al, %al
	jz stop
	outb %al, %dx
	jmp 1b
stop:
	cli
	/* A triple fault: with -no-reboot the VMM ends. */
	lidt CODE + no_idt - start
	ud2
timer:
	incl %ebp
	iretq

message:
	.asciz "wrenn: accelerator works\n"
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9a000000ffff	/* 0x08 code 32 */
	.quad 0x00cf92000000ffff	/* 0x10 data */
	.quad 0x00af9a000000ffff	/* 0x18 code 64 */
	.quad 0x00cf92000000ffff	/* 0x20 data, which syscall loads as 0x18 + 8 */
	.quad 0x00cff2000000ffff	/* 0x28 user data */
	.quad 0x00affa000000ffff	/* 0x30 user code 64 */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long CODE + gdt - start
idt_pointer:
	.word 0xfff
	.quad 0x5000
no_idt:
	.word 0
	.quad 0

	.org 0xfff0
	.code16
	.byte 0xe9			/* jmp start, from 0xfff0 back to 0 */
	.word start - (. + 2)
	.org 0x10000
